//! How much to read at a time.

/// How many rows to read at a time: few while they are large, so that a reading fits in memory.
#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    most_rows: usize,
    most_bytes: usize,
}

impl Pace {
    const FIRST: usize = 256;

    pub(super) fn new(most_rows: usize, most_bytes: usize) -> Self {
        Self { rows: Self::FIRST.min(most_rows).max(1), most_rows: most_rows.max(1), most_bytes }
    }

    /// Rows to read next.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from a reading.
    pub(super) fn saw(&mut self, rows: usize, bytes: usize) {
        if bytes > self.most_bytes {
            // About as many as one transaction holds.
            self.rows = (rows * self.most_bytes / bytes).clamp(1, self.most_rows);
        } else if rows >= self.rows && bytes < self.most_bytes / 2 {
            self.rows = (self.rows * 2).min(self.most_rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_grow_while_rows_are_small_and_shrink_when_they_are_large() {
        let mut pace = Pace::new(5_000, 4 << 20);
        assert_eq!(pace.rows(), 256);
        for _ in 0..10 {
            pace.saw(pace.rows(), pace.rows() * 300);
        }
        assert_eq!(pace.rows(), 5_000);
        pace.saw(5_000, 5_000 << 20);
        assert_eq!(pace.rows(), 4);
        pace.saw(4, 4 << 20);
        assert_eq!(pace.rows(), 4, "what fills a transaction is left as it is");
        pace.saw(1, 1 << 30);
        assert_eq!(pace.rows(), 1);
        // What is left over at the end says nothing.
        let mut pace = Pace::new(5_000, 4 << 20);
        pace.saw(3, 900);
        assert_eq!(pace.rows(), 256);
        assert_eq!(Pace::new(0, 0).rows(), 1);
    }
}
