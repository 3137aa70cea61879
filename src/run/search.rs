//! Looks for a text in a stream that comes in pieces.

/// A search that goes on from piece to piece.
#[derive(Debug, Clone)]
pub struct Search {
    needle: Vec<u8>,
    /// The end of what came, one byte shorter than the text.
    kept: Vec<u8>,
}

impl Search {
    /// Begins a search; an empty text is found in the first piece.
    pub fn new(needle: &[u8]) -> Self {
        Self { needle: needle.to_vec(), kept: Vec::new() }
    }

    /// Takes the next piece and says whether the text ends in it.
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        if self.needle.is_empty() {
            return true;
        }
        self.kept.extend_from_slice(piece);
        let found = self.kept.windows(self.needle.len()).any(|window| window == self.needle);
        let surplus = self.kept.len().saturating_sub(self.needle.len() - 1);
        self.kept.drain(..surplus);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_text_wherever_it_is_cut() {
        let stream = b"boot: aab login: ";
        for cut in 0..stream.len() {
            let mut search = Search::new(b"ab login");
            let (first, second) = stream.split_at(cut);
            let found = [search.feed(first), search.feed(second)];
            assert!(found[0] != found[1], "cut at {cut}");
        }
        let mut search = Search::new(b"never");
        assert!(!stream.iter().any(|byte| search.feed(&[*byte])));
        assert!(Search::new(b"").feed(b"x"));
    }
}
