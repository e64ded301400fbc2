//! Counts of right and wrong predictions, and the scores that follow from them.

use std::ops::{Add, AddAssign};

/// Entries of a confusion matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub tp: u64,
    pub fp: u64,
    pub fn_: u64,
    pub tn: u64,
}

impl Counts {
    pub fn observed(&self) -> u64 {
        self.tp + self.fp + self.fn_ + self.tn
    }

    pub fn positives(&self) -> u64 {
        self.tp + self.fn_
    }

    /// F1 of the positive label.
    pub fn f1_pos(&self) -> Option<f64> {
        self.defined(f1(self.tp, self.fp, self.fn_))
    }

    /// Mean of the F1 of the present and of the absent label (`classification_report`'s "macro avg").
    pub fn f1_pn(&self) -> Option<f64> {
        self.defined((f1(self.tp, self.fp, self.fn_) + f1(self.tn, self.fn_, self.fp)) / 2.0)
    }

    /// Mean of the precision of the present and of the absent label.
    pub fn precision(&self) -> Option<f64> {
        self.defined((ratio(self.tp, self.tp + self.fp) + ratio(self.tn, self.tn + self.fn_)) / 2.0)
    }

    /// Mean of the recall of the present and of the absent label.
    pub fn recall(&self) -> Option<f64> {
        self.defined((ratio(self.tp, self.tp + self.fn_) + ratio(self.tn, self.tn + self.fp)) / 2.0)
    }

    /// Precision of the positive label; `None` where it neither occurs nor is predicted.
    pub fn precision_pos(&self) -> Option<f64> {
        (self.tp + self.fp + self.fn_ > 0).then(|| ratio(self.tp, self.tp + self.fp))
    }

    /// Recall of the positive label; `None` where it does not occur.
    pub fn recall_pos(&self) -> Option<f64> {
        (self.positives() > 0).then(|| ratio(self.tp, self.positives()))
    }

    fn defined(&self, value: f64) -> Option<f64> {
        (self.observed() > 0).then_some(value)
    }
}

impl Add for Counts {
    type Output = Counts;
    fn add(self, o: Counts) -> Counts {
        Counts { tp: self.tp + o.tp, fp: self.fp + o.fp, fn_: self.fn_ + o.fn_, tn: self.tn + o.tn }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, o: Counts) {
        *self = *self + o;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), Add::add)
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn f1(tp: u64, fp: u64, fn_: u64) -> f64 {
    ratio(2 * tp, 2 * tp + fp + fn_)
}
