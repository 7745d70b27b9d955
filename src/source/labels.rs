//! Labels of the rows of a table or signal, and what a run of rows is labelled with.
//!
//! A missing label (empty cell, NaN) stays missing: it is never a zero.

use super::table::{Table, place};
use super::uri::Labels as Wanted;
use super::{Label, SourceError};
use std::ops::Range;

/// Classes above this are taken for a mistake in the column.
pub(super) const MAX_CLASSES: f64 = 1_000_000.0;
const MISSING: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) enum RowLabels {
    #[default]
    None,
    Classes {
        ids: Vec<u32>,
        names: Vec<String>,
    },
    Values(Vec<f64>),
}

impl RowLabels {
    /// A column of numbers becomes values, or classes where `wanted` says so; a column of text becomes classes with sorted names.
    pub fn column(table: &Table, name: &str, wanted: Option<Wanted>) -> Result<RowLabels, SourceError> {
        let column = table.column(name)?;
        if !table.is_numeric(column) {
            if wanted == Some(Wanted::Value) {
                table.numbers(column)?;
            }
            let names = table.texts(column);
            let ids = (0..table.rows()).map(|row| place(&names, table.cell(row, column))).collect();
            return Ok(RowLabels::Classes { ids, names });
        }
        let values = table.numbers(column)?;
        if wanted == Some(Wanted::Class) {
            return RowLabels::classes(&values).map_err(|row| {
                let remedy = "classes are whole numbers from 0; leave labels=class out for a value";
                table.bad(row, column, "is not a class", remedy)
            });
        }
        Ok(RowLabels::Values(values))
    }

    /// Numbers as classes; the error is the first row that is none.
    pub fn classes(values: &[f64]) -> Result<RowLabels, usize> {
        let class = |(row, x): (usize, &f64)| match *x {
            x if x.is_nan() => Ok(MISSING),
            x if (0.0..MAX_CLASSES).contains(&x) && x.fract() == 0.0 => Ok(x as u32),
            _ => Err(row),
        };
        let ids = values.iter().enumerate().map(class).collect::<Result<_, _>>()?;
        Ok(RowLabels::Classes { ids, names: Vec::new() })
    }

    pub fn get(&self, row: usize) -> Option<Label> {
        match self {
            RowLabels::None => None,
            RowLabels::Classes { ids, .. } => ids.get(row).filter(|id| **id != MISSING).map(|id| Label::Class(*id)),
            RowLabels::Values(values) => values.get(row).filter(|v| v.is_finite()).map(|v| Label::Value(*v)),
        }
    }

    pub fn names(&self) -> &[String] {
        match self {
            RowLabels::Classes { names, .. } => names,
            _ => &[],
        }
    }

    /// The commonest class (the smallest of equals) or the mean value of the labelled rows.
    pub fn over(&self, rows: Range<usize>) -> Option<Label> {
        match self {
            RowLabels::None => None,
            RowLabels::Classes { ids, .. } => majority(&ids[rows]).map(Label::Class),
            RowLabels::Values(values) => mean(&values[rows]).map(Label::Value),
        }
    }

    /// Every value becomes the mean over `reach` rows on either side, within rows of the same segment. Classes stay.
    pub fn smooth(&mut self, reach: usize, segments: &[u32]) {
        let RowLabels::Values(values) = self else { return };
        let mut out = Vec::with_capacity(values.len());
        for (row, own) in values.iter().enumerate() {
            let low = row.saturating_sub(reach);
            let high = row.saturating_add(reach).min(values.len() - 1);
            let start = (low..row).rev().take_while(|r| segments[*r] == segments[row]).last().unwrap_or(row);
            let end = (row + 1..=high).take_while(|r| segments[*r] == segments[row]).last().unwrap_or(row);
            out.push(if own.is_finite() { mean(&values[start..=end]).unwrap_or(*own) } else { *own });
        }
        *values = out;
    }
}

fn majority(ids: &[u32]) -> Option<u32> {
    let first = *ids.first()?;
    if first != MISSING && ids.iter().all(|id| *id == first) {
        return Some(first);
    }
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    for id in ids.iter().filter(|id| **id != MISSING) {
        *counts.entry(*id).or_default() += 1;
    }
    let most = *counts.values().max()?;
    counts.into_iter().find(|(_, n)| *n == most).map(|(id, _)| id)
}

fn mean(values: &[f64]) -> Option<f64> {
    let (sum, n) = values.iter().filter(|v| v.is_finite()).fold((0.0, 0u32), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Segment of each row: goes up where `run` changes, time runs backwards, or more than a second (and more than five
/// usual steps, for slow logs) is missing.
pub(super) fn segments(times: Option<&[u64]>, runs: &[&[u32]], rows: usize) -> Vec<u32> {
    let mut steps: Vec<u64> = times.map_or(Vec::new(), |t| t.windows(2).map(|w| w[1].saturating_sub(w[0])).collect());
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(0);
    let gap = usual.saturating_mul(5).max(1_000_000);
    let mut segment = 0;
    (0..rows)
        .map(|row| {
            if row > 0 {
                let jump = times.is_some_and(|t| t[row] < t[row - 1] || t[row] - t[row - 1] > gap);
                if jump || runs.iter().any(|run| run[row] != run[row - 1]) {
                    segment += 1;
                }
            }
            segment
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_stays_within_a_segment() {
        let mut labels = RowLabels::Values(vec![0.0, 3.0, 6.0, 100.0, 200.0]);
        labels.smooth(1, &[0, 0, 0, 1, 1]);
        let RowLabels::Values(v) = labels else { panic!() };
        assert_eq!(v, [1.5, 3.0, 4.5, 150.0, 150.0]);
    }

    #[test]
    fn a_window_has_the_commonest_class_and_the_mean_value() {
        let classes = RowLabels::classes(&[2.0, 1.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!(classes.over(0..3), Some(Label::Class(1)));
        assert_eq!(classes.over(0..5), Some(Label::Class(1)));
        assert_eq!(classes.over(3..4), None);
        assert_eq!(RowLabels::Values(vec![1.0, f64::NAN, 2.0]).over(0..3), Some(Label::Value(1.5)));
        assert_eq!(RowLabels::classes(&[0.0, 0.5]).unwrap_err(), 1);
    }

    #[test]
    fn segments_go_up_at_pauses_and_runs_but_not_in_slow_logs() {
        let ms = |t: &[u64]| t.iter().map(|t| t * 1000).collect::<Vec<_>>();
        let fast = ms(&[0, 50, 100, 1200, 1250, 1240]);
        assert_eq!(segments(Some(&fast), &[], 6), [0, 0, 0, 1, 1, 2]);
        let slow = ms(&[0, 60_000, 120_000, 180_000]);
        assert_eq!(segments(Some(&slow), &[], 4), [0, 0, 0, 0]);
        assert_eq!(segments(None, &[&[0, 0, 1], &[5, 6, 6]], 3), [0, 1, 2]);
    }
}
