//! Where a Markdown text shows code: fences and code spans, as CommonMark has them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::fold::Folded;

/// A piece of code, with its marks.
pub(super) struct Region {
    pub(super) range: Range<usize>,
    /// A block of its own, not a span in a line.
    pub(super) fence: bool,
}

/// The code in a fold, in order. A fence that is not closed goes on to the end.
pub(super) fn regions(folded: &Folded<'_>) -> Vec<Region> {
    let text = folded.text();
    let mut found = Vec::new();
    if !text.contains('`') && !text.contains("~~~") {
        return found;
    }
    let mut open: Option<Fence> = None;
    let mut paragraph = 0..0;
    let mut at = 0usize;
    for line in text.split_inclusive('\n') {
        let end = at.saturating_add(line.len());
        match &open {
            Some(fence) if fence.is_closed_by(line) => {
                found.push(Region { range: fence.start..end, fence: true });
                open = None;
                paragraph = end..end;
            }
            Some(_) => {}
            None => {
                open = Fence::opened_by(line, at);
                if open.is_some() || line.trim().is_empty() {
                    spans(text, paragraph, &mut found);
                    paragraph = end..end;
                } else {
                    paragraph.end = end;
                }
            }
        }
        at = end;
    }
    match open {
        Some(fence) => found.push(Region { range: fence.start..text.len(), fence: true }),
        None => spans(text, paragraph, &mut found),
    }
    found
}

struct Fence {
    start: usize,
    mark: char,
    marks: usize,
}

impl Fence {
    fn opened_by(line: &str, start: usize) -> Option<Self> {
        let line = unquoted(line);
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let line = match item.strip_prefix(['-', '*', '+', '.', ')']) {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start_matches([' ', '\t']),
            Some(_) | None => line,
        };
        let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let info = line.trim_start_matches(mark);
        let marks = line.len().saturating_sub(info.len());
        (marks >= 3 && (mark == '~' || !info.contains('`'))).then_some(Self { start, mark, marks })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = unquoted(line);
        let rest = line.trim_start_matches(self.mark);
        line.len().saturating_sub(rest.len()) >= self.marks && rest.trim().is_empty()
    }
}

fn unquoted(line: &str) -> &str {
    line.trim_start_matches([' ', '\t', '>'])
}

/// Adds the code spans of a paragraph: a run of backticks up to the next run as long.
fn spans(text: &str, paragraph: Range<usize>, found: &mut Vec<Region>) {
    let Some(inside) = text.get(paragraph.clone()) else { return };
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in inside.match_indices('`') {
        let at = paragraph.start.saturating_add(at);
        let end = at.saturating_add(1);
        match runs.last_mut() {
            Some(run) if run.end == at => run.end = end,
            Some(_) | None => runs.push(at..end),
        }
    }
    let mut later: BTreeMap<usize, usize> = BTreeMap::new();
    let mut partners: Vec<Option<usize>> = Vec::with_capacity(runs.len());
    for (index, run) in runs.iter().enumerate().rev() {
        let escaped = text.get(..run.start).is_some_and(|t| t.ends_with('\\') && !t.ends_with("\\\\"));
        let opens = run.len().saturating_sub(usize::from(escaped));
        partners.push(later.get(&opens).copied());
        later.insert(run.len(), index);
    }
    partners.reverse();
    let mut next = 0usize;
    for (index, (run, partner)) in runs.iter().zip(&partners).enumerate() {
        if let Some((last, end)) = partner.filter(|_| index >= next).and_then(|p| runs.get(p).map(|r| (p, r.end))) {
            found.push(Region { range: run.start..end, fence: false });
            next = last.saturating_add(1);
        }
    }
}
