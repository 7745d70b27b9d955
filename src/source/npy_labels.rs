//! Labels of the rows of a NumPy file, from a second one: classes, values, or the motion that counters show.
//!
//! `?combine=1-0` takes the sum and difference of columns, `?diff=1` the change since so many rows before, `?smooth=2` the
//! mean over so many rows on either side, in this order. The wheel ticks of a rover so become how fast it goes
//! (`combine=0+1&diff=1`) and how it turns (`combine=1-0&diff=1`).

use super::SourceError;
use super::labels::RowLabels;
use super::npy::Npy;
use super::uri::{Labels, Query};

/// Most columns of a table of labels.
const MAX_COLUMNS: usize = 64;

/// Labels of the samples of `of`, one for each of `segments`; changes and means stay within a segment.
pub(super) fn read(path: &str, segments: &[u32], q: &Query, of: &str) -> Result<RowLabels, SourceError> {
    let rows = segments.len();
    let npy = Npy::open(path)?;
    let columns = match npy.shape[..] {
        [n] if n == rows => 1,
        [n, k] if n == rows && k <= MAX_COLUMNS => k,
        _ => {
            let problem = format!("shape {:?} for labels of the {rows} samples of {of}", npy.shape);
            let remedy = format!("give the labels that belong to it, shape ({rows},) or ({rows}, K) with ?combine=");
            return Err(SourceError::file(path, problem, remedy));
        }
    };
    if npy.fortran && columns > 1 {
        let remedy = "save it in C order: numpy.save(path, numpy.ascontiguousarray(x))";
        return Err(SourceError::file(path, "the labels are in Fortran order", remedy));
    }
    let terms = match &q.combine {
        Some(terms) => terms.as_slice(),
        None if columns == 1 => &[(0, 1.0)],
        None => {
            let problem = format!("{columns} numbers for each sample");
            let remedy = "say which is the label with ?combine=0, or a sum or difference of them with ?combine=1-0";
            return Err(SourceError::file(path, problem, remedy));
        }
    };
    if let Some((column, _)) = terms.iter().find(|(column, _)| *column >= columns) {
        let remedy = format!("the columns are 0 to {}", columns - 1);
        return Err(SourceError::file(path, format!("combine= names column {column} of {columns}"), remedy));
    }
    let derived = q.combine.is_some() || q.diff.is_some() || q.smooth.is_some();
    let usual = if npy.float || derived { Labels::Value } else { Labels::Class };
    let class = q.labels.unwrap_or(usual) == Labels::Class;
    let mut all = Vec::with_capacity(rows * columns);
    npy.elements()?.each(0, (rows * columns) as u64, &mut |x| all.push(x)).map_err(|e| SourceError::io(path, e))?;
    let mut values: Vec<f64> =
        all.chunks_exact(columns).map(|row| terms.iter().map(|(column, sign)| sign * row[*column]).sum()).collect();
    if let Some(back) = q.diff {
        let before = |row: usize| row.checked_sub(back).filter(|b| segments[*b] == segments[row]);
        values = (0..rows).map(|row| before(row).map_or(f64::NAN, |b| values[row] - values[b])).collect();
    }
    if class {
        return RowLabels::classes(&values).map_err(|row| {
            let remedy = "classes are whole numbers from 0; add ?labels=value for a number to predict";
            SourceError::file(path, format!("row {row}: {} is not a class", values[row]), remedy)
        });
    }
    let mut labels = RowLabels::Values(values);
    labels.smooth(q.smooth.unwrap_or(0), segments);
    Ok(labels)
}
