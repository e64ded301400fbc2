//! Dense row-major arrays on the CPU: `f64` for references, `f32` for what is uploaded and read back.

use crate::core::shape::Shape;

/// Elements in the order of memory: the last axis is the innermost.
///
/// ```
/// use wmic::Array;
///
/// let x = Array::from_fn([2, 3], |i| i as f32);
/// assert_eq!((x.dims(), x.row(1)), (&[2, 3][..], &[3.0, 4.0, 5.0][..]));
/// assert_eq!(x.reshape([3, 2]).row(2), [4.0, 5.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    shape: Shape,
    data: Vec<T>,
}

impl<T: Copy + Default> Array<T> {
    /// Wraps `data`. Panics if its length is not that of `shape` (a bug of the caller, never of the data).
    pub fn new(shape: impl Into<Shape>, data: Vec<T>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.len(), data.len(), "array of shape {shape} from {} values", data.len());
        Array { shape, data }
    }

    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Array { data: vec![T::default(); shape.len()], shape }
    }

    pub fn from_fn(shape: impl Into<Shape>, f: impl FnMut(usize) -> T) -> Self {
        let shape = shape.into();
        Array { data: (0..shape.len()).map(f).collect(), shape }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub fn data(&self) -> &[T] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// Row `i` of the array seen as (rows, last axis).
    pub fn row(&self, i: usize) -> &[T] {
        let n = self.shape.last();
        &self.data[i * n..(i + 1) * n]
    }

    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        let n = self.shape.last();
        &mut self.data[i * n..(i + 1) * n]
    }

    pub fn map<U: Copy + Default>(&self, f: impl Fn(T) -> U) -> Array<U> {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&v| f(v)).collect() }
    }

    /// The same data under another shape of equal length.
    pub fn reshape(self, shape: impl Into<Shape>) -> Self {
        Array::new(shape, self.data)
    }
}

impl<T: Copy + Default> std::ops::Index<usize> for Array<T> {
    type Output = T;
    fn index(&self, i: usize) -> &T {
        &self.data[i]
    }
}

impl<T: Copy + Default> std::ops::IndexMut<usize> for Array<T> {
    fn index_mut(&mut self, i: usize) -> &mut T {
        &mut self.data[i]
    }
}
