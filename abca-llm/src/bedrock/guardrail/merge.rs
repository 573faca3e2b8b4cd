//! What the pieces of a text came back as, laid over the whole.

use std::ops::Range;

use abca_core::guardrail::{GuardrailError, GuardrailErrorKind};

/// What is put in place of what, in bytes of the whole text.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Takes in a piece that begins at `from`, as it came back. `matches` are what the service says it has masked.
    ///
    /// A masked text that cannot be laid over the piece is an error, but for a piece that is the `whole` text.
    pub(super) fn add(
        &mut self,
        from: usize,
        piece: &str,
        masked: &str,
        matches: &[String],
        whole: bool,
    ) -> Result<(), GuardrailError> {
        match aligned(piece, masked, matches) {
            Some(edits) => {
                self.0.extend(edits.into_iter().map(|(range, with)| (range.start + from..range.end + from, with)));
                Ok(())
            }
            None if whole => {
                self.0.push((0..piece.len(), masked.to_owned()));
                Ok(())
            }
            None => {
                let what = "the masked text that bedrock gave back is not the text that it was given, but for what it \
                            says it has masked: nothing goes through";
                Err(GuardrailError::new(GuardrailErrorKind::Unavailable, "check", what))
            }
        }
    }

    /// Where the first begins, and how many there are, each counted once.
    pub(super) fn first(&self) -> Option<(usize, usize)> {
        let merged = self.merged();
        merged.first().map(|(range, _)| (range.start, merged.len()))
    }

    /// The whole text with all of them made.
    pub(super) fn apply(&self, text: &str) -> String {
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for (range, with) in self.merged() {
            out.push_str(&text[from..range.start]);
            out.push_str(with);
            from = range.end;
        }
        out.push_str(&text[from..]);
        out
    }

    /// In order, those that overlap as one: what a piece cut short, its neighbour saw whole.
    fn merged(&self) -> Vec<(Range<usize>, &str)> {
        let mut sorted: Vec<(Range<usize>, &str)> = self.0.iter().map(|(r, w)| (r.clone(), w.as_str())).collect();
        sorted.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut out: Vec<(Range<usize>, &str)> = Vec::with_capacity(sorted.len());
        for (range, with) in sorted {
            match out.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => out.push((range, with)),
            }
        }
        out
    }
}

/// Which parts of a text a masked text has something else for: a match for a mark in brackets.
fn aligned(text: &str, masked: &str, matches: &[String]) -> Option<Vec<(Range<usize>, String)>> {
    let (mut at, mut now) = (0, 0);
    let mut edits = Vec::new();
    while at < text.len() || now < masked.len() {
        let (rest, there) = (&text[at..], &masked[now..]);
        let close = match there.chars().next() {
            Some('{') => Some('}'),
            Some('[') => Some(']'),
            Some('<') => Some('>'),
            _ => None,
        };
        let mark = close.and_then(|close| there.find(close)).map(|end| end + 1);
        let hidden = matches.iter().filter(|m| !m.is_empty() && rest.starts_with(m.as_str())).map(String::len).max();
        if let (Some(mark), Some(hidden)) = (mark, hidden)
            && there[..mark] != rest[..hidden]
        {
            edits.push((at..at + hidden, there[..mark].to_owned()));
            (at, now) = (at + hidden, now + mark);
            continue;
        }
        match (rest.chars().next(), there.chars().next()) {
            (Some(a), Some(b)) if a == b => (at, now) = (at + a.len_utf8(), now + b.len_utf8()),
            _ => return None,
        }
    }
    Some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    fn edits(text: &str, masked: &str, matches: &[&str]) -> Option<Vec<(Range<usize>, String)>> {
        aligned(text, masked, &strings(matches))
    }

    #[test]
    fn marks_are_found_whatever_they_say_and_the_rest_must_be_the_same() {
        let edit = |range, with: &str| (range, with.to_owned());
        assert_eq!(edits("to a@b.c!", "to {EMAIL}!", &["a@b.c"]), Some(vec![edit(3..8, "{EMAIL}")]));
        assert_eq!(
            edits("Al, Al", "[NAME-1], {NAME}", &["Al"]),
            Some(vec![edit(0..2, "[NAME-1]"), edit(4..6, "{NAME}")])
        );
        // What looks like a mark and was there before stays; of two matches the longer counts.
        assert_eq!(edits("{EMAIL} a@b.co", "{EMAIL} {EMAIL}", &["a@b", "a@b.co"]), Some(vec![edit(8..14, "{EMAIL}")]));
        assert_eq!(edits("Al Al", "Al {NAME}", &["Al"]), Some(vec![edit(3..5, "{NAME}")]));
        assert_eq!(edits("same", "same", &["x"]), Some(vec![]));
        for (text, masked) in [("to a@b.c!", "to {EMAIL}?"), ("ab", "a"), ("a", "ab"), ("other", "{X}")] {
            assert_eq!(edits(text, masked, &["a@b.c"]), None, "{text} {masked}");
        }
    }

    #[test]
    fn what_two_pieces_saw_is_one_edit() {
        let text = "0123 a@b.co 456 a@b.co 789";
        let mut all = Edits::default();
        // The first piece ends within the second address, the next begins within the first one.
        all.add(0, &text[..20], "0123 {EMAIL} 456 {USER}", &strings(&["a@b.co", "a@b."]), false).unwrap();
        all.add(16, &text[16..], "{EMAIL} 789", &strings(&["a@b.co"]), false).unwrap();
        assert_eq!(all.apply(text), "0123 {EMAIL} 456 {EMAIL} 789");
        assert_eq!(all.first(), Some((5, 2)));
    }

    #[test]
    fn a_text_that_came_back_as_another_goes_through_only_where_it_is_the_whole() {
        let mut all = Edits::default();
        assert!(all.add(0, "abc", "other", &[], false).is_err());
        all.add(0, "abc", "other", &[], true).unwrap();
        assert_eq!(all.apply("abc"), "other");
    }
}
