//! A CSV file in memory: the frame tables, segment lists and sensor logs that other sources read columns of.
//!
//! Errors name row (line of the file), column and what is there instead. It never guesses: a cell that should be a number and is none is an error.

use super::SourceError;
use std::fs::File;

/// All cells of a CSV file as text.
#[derive(Debug)]
pub(super) struct Table {
    pub path: String,
    pub header: Vec<String>,
    text: String,
    /// End of each cell in `text`, row after row.
    ends: Vec<usize>,
    /// Line of the file of each row, for messages.
    lines: Vec<u64>,
}

impl Table {
    pub fn open(path: &str) -> Result<Table, SourceError> {
        let file = File::open(path).map_err(|e| SourceError::io(path, e))?;
        Table::read(path, file)
    }

    pub fn read(path: &str, input: impl std::io::Read) -> Result<Table, SourceError> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(input);
        let mut table = Table {
            path: path.to_owned(),
            header: Vec::new(),
            text: String::new(),
            ends: Vec::new(),
            lines: Vec::new(),
        };
        let mut row = csv::StringRecord::new();
        while reader.read_record(&mut row).map_err(|e| csv_error(path, e))? {
            if table.header.is_empty() {
                // A first row of numbers alone is data: its columns are called 0, 1, 2 ...
                if row.iter().all(|cell| cell.parse::<f64>().is_ok()) {
                    table.header = (0..row.len()).map(|i| i.to_string()).collect();
                } else {
                    table.header = row.iter().map(|cell| cell.trim_start_matches('\u{feff}').to_owned()).collect();
                    table.refuse_twins()?;
                    continue;
                }
            }
            for cell in &row {
                table.text.push_str(cell);
                table.ends.push(table.text.len());
            }
            table.lines.push(row.position().map_or(0, csv::Position::line));
        }
        if table.lines.is_empty() {
            return Err(SourceError::file(
                path,
                "no rows of data",
                "give a CSV file with a header row and at least one row",
            ));
        }
        Ok(table)
    }

    fn refuse_twins(&self) -> Result<(), SourceError> {
        for (i, name) in self.header.iter().enumerate() {
            if self.header[..i].contains(name) {
                let problem = format!("line 1: column '{name}' is there twice");
                return Err(SourceError::file(&self.path, problem, "give every column its own name"));
            }
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Line of the file that row `row` begins on.
    pub fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    pub fn cell(&self, row: usize, column: usize) -> &str {
        let i = row * self.header.len() + column;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| h == name)
    }

    /// The column called `name`, or an error that lists those there are.
    pub fn column(&self, name: &str) -> Result<usize, SourceError> {
        self.find(name).ok_or_else(|| {
            let remedy = format!("name one of its columns: {}", self.header.join(", "));
            SourceError::file(&self.path, format!("no column '{name}'"), remedy)
        })
    }

    /// Whether every cell of the column is a number or empty.
    pub fn is_numeric(&self, column: usize) -> bool {
        (0..self.rows()).all(|row| matches!(self.cell(row, column), c if c.is_empty() || c.parse::<f64>().is_ok()))
    }

    /// Whether the first cell of the column is a number or empty.
    pub fn starts_numeric(&self, column: usize) -> bool {
        let cell = self.cell(0, column);
        cell.is_empty() || cell.parse::<f64>().is_ok()
    }

    /// A number; NaN where the cell is empty.
    pub fn number(&self, row: usize, column: usize) -> Result<f64, SourceError> {
        let cell = self.cell(row, column);
        if cell.is_empty() {
            return Ok(f64::NAN);
        }
        cell.parse::<f64>().map_err(|_| self.bad(row, column, "is not a number", "correct the cell"))
    }

    /// The whole column as numbers; NaN where a cell is empty.
    pub fn numbers(&self, column: usize) -> Result<Vec<f64>, SourceError> {
        (0..self.rows()).map(|row| self.number(row, column)).collect()
    }

    /// The whole column as whole numbers from 0 to 2^53.
    pub fn counts(&self, column: usize) -> Result<Vec<u64>, SourceError> {
        let count = |row| {
            let x = self.number(row, column)?;
            if (0.0..=9e15).contains(&x) && x.fract() == 0.0 {
                return Ok(x as u64);
            }
            Err(self.bad(row, column, "is not a whole number from 0", "correct the cell"))
        };
        (0..self.rows()).map(count).collect()
    }

    /// A number for each row by which rows are told apart: the cell itself where the column holds whole numbers below
    /// 10^9, else the place of the cell's text among the sorted texts of the column (empty cells: one after the last).
    pub fn groups(&self, column: usize) -> Vec<u32> {
        let small = |row| self.cell(row, column).parse::<u32>().ok().filter(|n| *n < 1_000_000_000);
        let own: Option<Vec<u32>> = (0..self.rows()).map(small).collect();
        own.unwrap_or_else(|| {
            let names = self.texts(column);
            (0..self.rows()).map(|row| place(&names, self.cell(row, column)).min(names.len() as u32)).collect()
        })
    }

    /// The sorted, different, non-empty texts of a column.
    pub fn texts(&self, column: usize) -> Vec<String> {
        let all: std::collections::BTreeSet<&str> = (0..self.rows()).map(|row| self.cell(row, column)).collect();
        all.into_iter().filter(|t| !t.is_empty()).map(str::to_owned).collect()
    }

    /// An error about one cell.
    pub fn bad(&self, row: usize, column: usize, problem: &str, remedy: &str) -> SourceError {
        let (line, name, cell) = (self.line(row), &self.header[column], self.cell(row, column));
        let shown: String = cell.chars().take(40).collect();
        SourceError::file(&self.path, format!("line {line}, column '{name}': '{shown}' {problem}"), remedy)
    }

    /// Times in microseconds since the first row from the columns `t_us`, `t_ms` or `time` (seconds), the first that is there.
    pub fn times(&self) -> Result<Option<(usize, Vec<u64>)>, SourceError> {
        let found = [("t_us", 1.0), ("t_ms", 1e3), ("time", 1e6)]
            .iter()
            .find_map(|(name, unit)| self.find(name).filter(|c| self.starts_numeric(*c)).map(|c| (c, *unit)));
        let Some((column, unit)) = found else { return Ok(None) };
        let times = self.numbers(column)?;
        if let Some(row) = times.iter().position(|t| !t.is_finite()) {
            return Err(self.bad(
                row,
                column,
                "is not a time",
                "fill the cell in, or rename the column to have it ignored",
            ));
        }
        // A float cast saturates: a time before the first row is 0.
        Ok(Some((column, times.iter().map(|t| ((t - times[0]) * unit).round() as u64).collect())))
    }
}

/// Place of `text` in sorted `names`; `u32::MAX` where it is not among them.
pub(super) fn place(names: &[String], text: &str) -> u32 {
    names.binary_search_by(|n| n.as_str().cmp(text)).map_or(u32::MAX, |i| i as u32)
}

fn csv_error(path: &str, error: csv::Error) -> SourceError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(e) => SourceError::io(path, e),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => SourceError::file(
            path,
            format!("line {line}: {len} cells where the first row has {expected_len}"),
            "complete or remove the line (the last line of a log that was cut off is often short)",
        ),
        csv::ErrorKind::Utf8 { err, .. } => {
            SourceError::file(path, format!("line {line}: {err}"), "save the file as UTF-8 text")
        }
        other => SourceError::file(path, format!("line {line}: {other:?}"), "check that this is a CSV file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table, SourceError> {
        Table::read("t.csv", text.as_bytes())
    }

    #[test]
    fn a_first_row_of_numbers_is_data() {
        let t = table("1,2\n3,4\n").unwrap();
        assert_eq!((t.header.join(" "), t.rows()), ("0 1".to_owned(), 2));
        assert_eq!(t.numbers(1).unwrap(), [2.0, 4.0]);
    }

    #[test]
    fn errors_name_line_column_and_cell() {
        let t = table("a,b\n1,2\n3,x\n").unwrap();
        let message = t.numbers(1).unwrap_err().to_string();
        assert!(message.contains("t.csv: line 3, column 'b': 'x' is not a number"), "{message}");
        let message = t.column("c").unwrap_err().to_string();
        assert!(message.contains("no column 'c'") && message.contains("a, b"), "{message}");
        let message = table("a,b\n1,2\n3\n").unwrap_err().to_string();
        assert!(message.contains("line 3: 1 cells where the first row has 2"), "{message}");
        assert!(table("a,b\n").is_err() && table("").is_err() && table("a,a\n1,2").is_err());
    }

    #[test]
    fn groups_are_the_numbers_themselves_or_places_among_sorted_texts() {
        let t = table("who,n\nzoe,30\nann,7\nzoe,30\n").unwrap();
        assert_eq!(t.groups(0), [1, 0, 1]);
        assert_eq!(t.groups(1), [30, 7, 30]);
        assert_eq!(table("a,b\nx,\n,4294967295\n").unwrap().groups(0), [0, 1]);
        assert_eq!(table("a\n4294967295\n5\n").unwrap().groups(0), [0, 1]);
    }

    #[test]
    fn time_counts_from_the_first_row() {
        let t = table("time,x\n100.5,1\n100.6,2\n").unwrap();
        assert_eq!(t.times().unwrap().unwrap(), (0, vec![0, 100_000]));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::sample::select(&b"a1,.\"\n\r-e\xff "[..]), 0..200)) {
            if let Ok(t) = Table::read("t", &bytes[..]) {
                for c in 0..t.header.len() {
                    let _ = (t.numbers(c), t.counts(c), t.groups(c), t.is_numeric(c));
                }
                let _ = t.times();
            }
        }
    }
}
