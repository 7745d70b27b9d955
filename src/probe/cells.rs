//! Features of the cells of an encoder's maps, for probes that say where something is: a coarse mask.
//!
//! Cells are those of a grid over the frame. A cell's feature is, of every map given, the mean of the columns of channels
//! within it, or of a coarser map the column that covers it. Prototypes taught on some frames' cells then give each cell
//! of a new frame its class, and a novelty score taken over cells says where something new stands.

use crate::kernels::Map;

/// One map of an encoder: what [`Learner::perceive_map`](crate::learner::Learner::perceive_map) wrote.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    pub map: Map,
    /// `[height, width, channels]`
    pub values: &'a [i8],
}

/// Length of a cell's feature.
pub fn dim(maps: &[Map]) -> usize {
    maps.iter().map(|map| map.channels).sum()
}

/// The feature of the cell at `row` and `column` of a `grid` of (rows, columns), into `out`, [`dim`] long.
pub fn feature(layers: &[Layer], grid: (usize, usize), row: usize, column: usize, out: &mut [i8]) {
    let span = |place: usize, cells: usize, extent: usize| {
        let from = place * extent / cells;
        from..((place + 1) * extent / cells).max(from + 1)
    };
    let mut from = 0;
    for Layer { map, values } in layers {
        let (rows, columns) = (span(row, grid.0, map.height), span(column, grid.1, map.width));
        let count = (rows.len() * columns.len()) as i32;
        for (channel, out) in out[from..from + map.channels].iter_mut().enumerate() {
            let at = |y: usize, x: usize| i32::from(values[(y * map.width + x) * map.channels + channel]);
            let sum: i32 = rows.clone().map(|y| columns.clone().map(|x| at(y, x)).sum::<i32>()).sum();
            *out = (sum + count / 2).div_euclid(count) as i8;
        }
        from += map.channels;
    }
}

/// Overlap of two masks for one class: cells that both call so, of those that either does. `None` where neither does.
pub fn overlap(answers: &[u8], truth: &[u8], class: u8) -> Option<(u32, u32)> {
    let (mut both, mut either) = (0, 0);
    for (&a, &t) in answers.iter().zip(truth) {
        both += u32::from(a == class && t == class);
        either += u32::from(a == class || t == class);
    }
    (either > 0).then_some((both, either))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_sees_the_mean_of_finer_columns_and_the_coarser_one_that_covers_it() {
        let fine = Layer { map: Map::new(2, 4, 1), values: &[0, 1, -2, -3, 4, 5, 6, 8] };
        let coarse = Layer { map: Map::new(1, 2, 2), values: &[10, 11, 20, 21] };
        let mut out = [0; 3];
        let mut at = |grid, row, column| {
            feature(&[fine, coarse], grid, row, column, &mut out);
            out
        };
        assert_eq!([at((2, 4), 0, 1), at((2, 4), 1, 1), at((2, 4), 1, 2)], [[1, 10, 11], [5, 10, 11], [6, 20, 21]]);
        assert_eq!([at((1, 2), 0, 0), at((1, 2), 0, 1)], [[3, 10, 11], [2, 20, 21]]);
    }

    #[test]
    fn overlap_counts_each_cell_once() {
        assert_eq!(overlap(&[1, 1, 0, 2], &[1, 0, 1, 2], 1), Some((1, 3)));
        assert_eq!(overlap(&[1, 1], &[1, 0], 3), None);
    }
}
