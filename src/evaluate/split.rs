//! Who is trained on and who is tested on: splits and folds that never cut a group.

use std::collections::HashMap;

use super::EvaluateError;
use super::random::Random;

/// How the rows of a data set follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// In order of time: what comes first is for training.
    InTime,
    /// In no order that matters: groups, or rows where there is one group, are drawn at random.
    Unordered { seed: u64 },
}

/// Row numbers of the two parts, each ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
}

/// Splits rows so that about `train_fraction` of them are for training, by whole groups where there are several.
///
/// Within one group the cut is in time ([`Rows::InTime`]) or at random. Neither part is ever empty.
///
/// # Errors
/// [`EvaluateError::TooFewRows`] below two rows, [`EvaluateError::Fraction`] for a fraction outside `0..1`.
pub fn split(groups: &[u32], train_fraction: f64, rows: Rows) -> Result<Split, EvaluateError> {
    if !(train_fraction > 0.0 && train_fraction < 1.0) {
        return Err(EvaluateError::Fraction(train_fraction));
    }
    if groups.len() < 2 {
        return Err(EvaluateError::TooFewRows { part: "data", rows: groups.len(), need: 2 });
    }
    let mut members = by_group(groups);
    if members.len() == 1 {
        members = (0..groups.len()).map(|row| vec![row]).collect();
    }
    if let Rows::Unordered { seed } = rows {
        Random::new(seed).shuffle(&mut members);
    }
    let wanted = train_fraction * groups.len() as f64;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let last = members.len() - 1;
    for (index, group) in members.into_iter().enumerate() {
        // A group goes to training where that brings the count nearer to the wanted one.
        let nearer = train.len() as f64 + group.len() as f64 / 2.0 <= wanted;
        let for_training = index == 0 || (index < last && nearer && test.is_empty());
        if for_training { train.extend(group) } else { test.extend(group) }
    }
    train.sort_unstable();
    test.sort_unstable();
    Ok(Split { train, test })
}

/// Rows of each group, groups in order of first appearance.
fn by_group(groups: &[u32]) -> Vec<Vec<usize>> {
    let mut place = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (row, group) in groups.iter().enumerate() {
        let at = *place.entry(group).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[at].push(row);
    }
    members
}

/// Number of folds for choosing a strength of regularisation.
const FOLDS: usize = 5;

/// The fold of each row: whole groups where there are at least five, else contiguous blocks of a
/// time-ordered set, else rows dealt out at random. Fewer than five rows give fewer folds.
pub(super) fn folds(groups: &[u32], time_ordered: bool, seed: u64) -> Vec<usize> {
    let rows = groups.len();
    let mut fold = vec![0; rows];
    let mut members = by_group(groups);
    if members.len() >= FOLDS {
        members.sort_by_key(|group| (usize::MAX - group.len(), group[0]));
        let mut filled = [0; FOLDS];
        for group in members {
            let emptiest = (0..FOLDS).min_by_key(|&f| filled[f]).unwrap_or(0);
            filled[emptiest] += group.len();
            group.into_iter().for_each(|row| fold[row] = emptiest);
        }
        return fold;
    }
    let count = FOLDS.min(rows).max(1);
    let mut order: Vec<usize> = (0..rows).collect();
    if !time_ordered {
        Random::new(seed).shuffle(&mut order);
    }
    order.into_iter().enumerate().for_each(|(place, row)| fold[row] = place * count / rows);
    fold
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn no_group_is_on_both_sides_and_no_row_is_lost(
            groups in prop::collection::vec(0_u32..8, 2..200), fraction in 0.01..0.99, seed: u64, in_time: bool,
        ) {
            let rows = if in_time { Rows::InTime } else { Rows::Unordered { seed } };
            let Split { train, test } = split(&groups, fraction, rows).unwrap();
            prop_assert!(!train.is_empty() && !test.is_empty());
            let mut all = [train.clone(), test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..groups.len()).collect::<Vec<_>>());
            let of = |part: &[usize]| part.iter().map(|&i| groups[i]).collect::<HashSet<_>>();
            if of(&(0..groups.len()).collect::<Vec<_>>()).len() > 1 {
                prop_assert!(of(&train).is_disjoint(&of(&test)));
            }
        }

        #[test]
        fn folds_never_cut_one_of_five_or_more_groups(groups in prop::collection::vec(0_u32..9, 1..120), timed: bool) {
            let fold = folds(&groups, timed, 3);
            if groups.iter().collect::<HashSet<_>>().len() >= FOLDS {
                for (a, fold_a) in groups.iter().zip(&fold) {
                    for (b, fold_b) in groups.iter().zip(&fold) {
                        prop_assert!(a != b || fold_a == fold_b);
                    }
                }
            }
            prop_assert_eq!(fold.iter().collect::<HashSet<_>>().len(), FOLDS.min(groups.len()));
        }
    }

    #[test]
    fn one_run_is_cut_in_time_with_the_first_part_for_training() {
        let cut = split(&[7; 10], 0.8, Rows::InTime).unwrap();
        assert_eq!(cut, Split { train: (0..8).collect(), test: vec![8, 9] });
    }

    #[test]
    fn blocks_in_time_are_contiguous() {
        assert_eq!(folds(&[0; 10], true, 0), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }
}
