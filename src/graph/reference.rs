//! A graph computed in f64 by the references of its ops, to check whole plans.

use std::collections::HashMap;

use super::{Graph, Storage, StorageKind, Tensor};
use crate::core::array::Array;

impl Graph {
    /// `wanted` for one replica. `given`: elements of the inputs and of the parameters, by name.
    ///
    /// Panics for missing values (a bug of the caller).
    pub fn reference(&self, given: &dyn Fn(&str) -> Vec<f64>, wanted: Tensor) -> Array<f64> {
        let mut known: HashMap<Storage, Vec<f64>> = HashMap::new();
        for node in &self.nodes {
            let x: Vec<Array<f64>> = node.x.iter().map(|t| self.value(*t, &mut known, given)).collect();
            for (t, y) in node.y.iter().zip(node.op.reference(&x)) {
                known.insert(self.memory_of(*t), y.data().to_vec());
            }
        }
        self.value(wanted, &mut known, given)
    }

    fn value(&self, t: Tensor, known: &mut HashMap<Storage, Vec<f64>>, given: &dyn Fn(&str) -> Vec<f64>) -> Array<f64> {
        let storage = self.memory_of(t);
        let info = &self.storages[storage.0];
        let data = known.entry(storage).or_insert_with(|| match &info.kind {
            StorageKind::Input { name, .. } => given(name),
            StorageKind::Param(index) => given(&self.layout.params[*index].name),
            StorageKind::Constant(words) => words.iter().map(|word| f64::from(f32::from_bits(*word))).collect(),
            StorageKind::Zeros => vec![0.0; info.len],
            StorageKind::Detached(_) | StorageKind::Computed => panic!("tensor {} is used before it is computed", t.0),
        });
        Array::new(self.shape(t).clone(), data.clone())
    }
}
