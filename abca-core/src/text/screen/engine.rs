//! One pass for all keywords, then each rule only where one of its keywords stands.

use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use regex::Regex;
use secrecy::SecretString;

use super::base64;
use super::check::{self, CHECKED_BYTES, Checksum, STRUCTURE_BYTES, Verdict};
use super::known::{self, Anchor};
use super::rule::{Rule, RuleError, RuleKind, RulePlace, Severity};
use super::tail::{Run, Tail};
use super::{Finding, KNOWN_ID, KNOWN_LABEL};

/// Most bytes of base64 that are decoded at a keyword.
const DECODED_BYTES: usize = 384;
/// Most of it that is decoded to see whether a rule's pattern fits.
const ENOUGH_BYTES: usize = 160;
/// More states than this and the automaton is kept small instead of fast.
const MAX_FAST_BYTES: usize = 24 * 1024;
/// How much of a text is searched before what was found in it is put in order.
const BLOCK_BYTES: usize = 64 * 1024;
/// Bytes before a match that tell whether a word begins there.
const CONTEXT_BYTES: usize = 8;

/// A rule that can be used.
pub(super) struct Ready {
    pub(super) rule: Rule,
    label: String,
    /// Its longest match.
    span: usize,
    // Compiled when one of its keywords is met for the first time: most rules never are.
    pattern: OnceLock<Option<Pattern>>,
}

struct Pattern {
    regex: Regex,
    /// Whether it has a group named `secret`.
    has_group: bool,
}

impl Ready {
    pub(super) fn new(rule: Rule) -> Result<Self, RuleError> {
        let span = rule.validate()?;
        Ok(Self { label: rule.label(), span, pattern: OnceLock::new(), rule })
    }

    /// One of abca's own, whose keywords may be shorter.
    pub(super) fn builtin(rule: Rule) -> Self {
        let span = rule.longest().unwrap_or(super::rule::MAX_PATTERN_BYTES);
        Self { label: rule.label(), span, pattern: OnceLock::new(), rule }
    }

    pub(super) fn check(&self) -> Result<(), RuleError> {
        let regex = self.rule.compiled()?;
        if regex.capture_names().flatten().any(|name| name != "secret") {
            return Err(self.rule.error(RulePlace::Pattern(0), "its only named group may be `secret`"));
        }
        Ok(())
    }

    fn pattern(&self) -> Option<&Pattern> {
        let compile = || {
            let regex = self.rule.compiled().ok()?;
            let has_group = regex.capture_names().flatten().any(|name| name == "secret");
            Some(Pattern { regex, has_group })
        };
        self.pattern.get_or_init(compile).as_ref()
    }

    /// The secret of a match at the beginning of a text.
    fn at_start(&self, text: &str) -> Option<(usize, usize)> {
        let pattern = self.pattern()?;
        if !pattern.has_group {
            return pattern.regex.find(text).map(|m| (m.start(), m.end()));
        }
        pattern
            .regex
            .is_match(text)
            .then(|| pattern.regex.captures(text)?.name("secret"))
            .flatten()
            .map(|m| (m.start(), m.end()))
    }

    /// The secret of the first match from a place on that has a given byte in it.
    fn around(&self, text: &str, from: usize, at: usize) -> Option<(usize, usize)> {
        let pattern = self.pattern()?;
        let mut from = from;
        loop {
            let found = pattern.regex.find_at(text, from)?;
            if found.start() > at {
                return None;
            }
            if found.end() > at {
                let captures = pattern.regex.captures_at(text, found.start())?;
                let secret = captures.name("secret").or_else(|| captures.get(0))?;
                return Some((secret.start(), secret.end()));
            }
            from = found.end();
        }
    }

    /// Whether what was matched is a secret: how sure, and the run of bytes that may go on behind it.
    fn judge(&self, text: &str, start: usize, end: usize) -> Option<(bool, usize, Run)> {
        let looks_at = if self.rule.tail == Tail::Pem {
            STRUCTURE_BYTES
        } else {
            self.rule.checksum.map_or(CHECKED_BYTES, Checksum::looks_at)
        };
        let head = text.get(end..ceil(text, end.saturating_add(looks_at)))?;
        let mut run = self.rule.tail.run();
        let end = end.saturating_add(run.take(head.as_bytes()));
        if self.rule.tail == Tail::Pem && !run.is_key() {
            return None;
        }
        let secret = text.get(start..end.min(floor(text, start.saturating_add(looks_at))))?;
        let sample = secret.get(..floor(secret, CHECKED_BYTES)).unwrap_or(secret);
        if self.rule.min_entropy.is_some_and(|least| check::entropy(sample) < least) {
            return None;
        }
        let verified = match self.rule.checksum.map_or(Verdict::Shape, |check| check.judge(secret)) {
            Verdict::No => return None,
            Verdict::Shape => false,
            Verdict::Verified => true,
        };
        Some((verified, end, run))
    }
}

/// What a keyword stands for.
#[derive(Clone, Copy)]
enum Owner {
    Rule(usize),
    /// A rule's keyword in base64, `first` digits into its group of four, `shift` bytes into its group of three.
    Encoded {
        rule: usize,
        shift: usize,
        first: usize,
    },
    Known(usize),
}

/// The rules and values of a screen, ready to be looked for.
pub(super) struct Engine {
    pub(super) rules: Vec<Arc<Ready>>,
    pub(super) known: Vec<SecretString>,
    anchors: Vec<Anchor>,
    // `None` when it could not be built: then nothing is let through.
    automaton: Option<AhoCorasick>,
    owners: Vec<Owner>,
    longest_keyword: usize,
    /// How far after a keyword has to be looked to decide what it is.
    pub(super) ahead: usize,
    /// How far before a keyword a secret may begin.
    pub(super) back: usize,
}

impl Engine {
    pub(super) fn new(rules: Vec<Arc<Ready>>, known: Vec<SecretString>) -> Self {
        let anchors: Vec<Anchor> = known.iter().flat_map(known::anchors).collect();
        let mut words: Vec<String> = Vec::new();
        let mut owners = Vec::new();
        let mut push = |word: &str, owner: Owner| {
            words.push(word.to_owned());
            owners.push(owner);
        };
        for (index, ready) in rules.iter().enumerate() {
            for keyword in &ready.rule.keywords {
                push(keyword, Owner::Rule(index));
                if ready.rule.encoded {
                    for shift in 0..3usize {
                        let (forms, first) = base64::inside(keyword.as_bytes(), shift);
                        forms.iter().for_each(|form| push(form, Owner::Encoded { rule: index, shift, first }));
                    }
                }
            }
        }
        for (index, anchor) in anchors.iter().enumerate() {
            push(anchor.text(), Owner::Known(index));
        }
        let bytes: usize = words.iter().map(String::len).sum();
        let kind = if bytes <= MAX_FAST_BYTES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let automaton = AhoCorasickBuilder::new().ascii_case_insensitive(true).kind(Some(kind)).build(&words).ok();
        let longest_keyword = words.iter().map(String::len).max().unwrap_or(0);
        let spans = rules.iter().map(|r| r.span.saturating_add(STRUCTURE_BYTES).saturating_add(CONTEXT_BYTES));
        let most = |values: &mut dyn Iterator<Item = usize>| values.max().unwrap_or(0);
        let ahead = most(&mut spans.chain(anchors.iter().map(Anchor::span)))
            .max(DECODED_BYTES.saturating_mul(3) / 2)
            .max(longest_keyword);
        let reaches = rules.iter().map(|r| usize::from(r.rule.reach_bytes));
        let back = most(&mut reaches.chain(anchors.iter().map(Anchor::span))).saturating_add(CONTEXT_BYTES);
        Self { rules, known, anchors, automaton, owners, longest_keyword, ahead, back }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.automaton.is_some()
    }

    /// The label, kind and severity of what an index stands for.
    fn about(&self, index: usize) -> (&str, &str, RuleKind, Severity) {
        match index.checked_sub(1).and_then(|i| self.rules.get(i)) {
            Some(ready) => (&ready.label, &ready.rule.id, ready.rule.kind, ready.rule.severity),
            None => (KNOWN_LABEL, KNOWN_ID, RuleKind::Known, Severity::Critical),
        }
    }
}

/// A part of a text in view, and where in the whole it begins.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) text: &'a str,
    pub(super) base: usize,
}

impl View<'_> {
    fn at(&self, absolute: usize) -> usize {
        absolute.saturating_sub(self.base)
    }

    fn end(&self) -> usize {
        self.base.saturating_add(self.text.len())
    }
}

/// Something found. Places are those in the whole text.
struct Found {
    start: usize,
    end: usize,
    /// 0 for a known value, else the rule's position and one: the order of precedence.
    index: usize,
    verified: bool,
}

/// Something found whose end is not in view yet.
struct Growing {
    start: usize,
    index: usize,
    end: usize,
    tail: Tail,
    run: Run,
    /// Whose search goes on after it.
    slot: usize,
}

/// How far a search has come. The same text in any pieces takes it through the same states.
#[derive(Default)]
pub(super) struct Search {
    /// Every keyword that begins before is decided.
    pub(super) decided: usize,
    /// Everything before is given out.
    pub(super) emitted: usize,
    /// Everything between `emitted` and here belongs to what was found.
    covered: usize,
    /// Per rule, plain and encoded: keywords before are inside what it found.
    resume: Vec<usize>,
    pending: Vec<Found>,
    growing: Vec<Growing>,
    current: Option<Finding>,
    hits: Vec<(usize, usize)>,
    /// The last run of each class of bytes in this view: many matches may end in one.
    runs: [Option<(usize, usize)>; Tail::COUNT],
}

/// Where what is left of a text goes.
pub(super) struct Sink<'a> {
    pub(super) text: &'a mut String,
    pub(super) findings: &'a mut Vec<Finding>,
}

impl Search {
    /// Decides every keyword before `to`, of which the view has to show as much after it as the engine looks ahead.
    pub(super) fn advance(&mut self, engine: &Engine, view: View<'_>, to: usize, sink: &mut Sink<'_>) {
        self.resume.resize(engine.rules.len().saturating_mul(2), 0);
        self.runs = Default::default();
        self.grow(view);
        while self.decided < to {
            let block = self.decided.saturating_add(BLOCK_BYTES).min(to);
            self.search(engine, view, block);
            self.decided = block;
            let limit = floor(view.text, view.at(block.saturating_sub(engine.back))).saturating_add(view.base);
            self.emit(engine, view, limit, sink);
        }
    }

    /// Gives out everything in view; more may follow.
    pub(super) fn settle(&mut self, engine: &Engine, view: View<'_>, sink: &mut Sink<'_>) {
        self.advance(engine, view, view.end(), sink);
        self.emit(engine, view, view.end(), sink);
    }

    /// Gives out the rest.
    pub(super) fn finish(&mut self, engine: &Engine, view: View<'_>, sink: &mut Sink<'_>) {
        self.settle(engine, view, sink);
        self.close(sink);
    }

    /// Follows what had not ended.
    fn grow(&mut self, view: View<'_>) {
        for mut growing in std::mem::take(&mut self.growing) {
            growing.end = self.follow(view, growing.tail, &mut growing.run, growing.end);
            let (start, index) = (growing.start, growing.index);
            match self.pending.iter_mut().find(|f| (f.start, f.index) == (start, index)) {
                Some(pending) => pending.end = growing.end,
                None => self.covered = self.covered.max(growing.end),
            }
            self.keep(view, growing);
        }
    }

    fn keep(&mut self, view: View<'_>, growing: Growing) {
        let ends = growing.end < view.end() || growing.tail == Tail::None;
        if let Some(resume) = self.resume.get_mut(growing.slot) {
            *resume = if ends { growing.end } else { usize::MAX };
        }
        if !ends {
            self.growing.push(growing);
        }
    }

    /// Where a run ends that may go on at a place.
    fn follow(&mut self, view: View<'_>, tail: Tail, run: &mut Run, from: usize) -> usize {
        let slot = self.runs.get_mut(tail.index());
        if let Some((start, end)) = slot.as_deref().copied().flatten()
            && tail != Tail::Pem
            && (start..=end).contains(&from)
        {
            return end;
        }
        let rest = view.text.as_bytes().get(view.at(from)..).unwrap_or_default();
        let end = from.saturating_add(run.take(rest));
        let end = ceil(view.text, view.at(end)).saturating_add(view.base);
        if let Some(slot) = slot {
            *slot = Some((from, end));
        }
        end
    }

    fn search(&mut self, engine: &Engine, view: View<'_>, to: usize) {
        let (from, until) = (view.at(self.decided), view.at(to.saturating_add(engine.longest_keyword)));
        let bytes = view.text.as_bytes();
        let part = bytes.get(from..until.min(bytes.len())).unwrap_or_default();
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        if let Some(automaton) = &engine.automaton {
            let found = automaton.find_overlapping_iter(part);
            let before = to.saturating_sub(self.decided);
            hits.extend(found.filter(|m| m.start() < before).map(|m| (m.start(), m.pattern().as_usize())));
        }
        hits.sort_unstable();
        for (start, pattern) in &hits {
            if let Some(owner) = engine.owners.get(*pattern) {
                self.decide(engine, view, from.saturating_add(*start), *owner);
            }
        }
        self.hits = hits;
    }

    /// Decides what a keyword at a place of the view stands for.
    fn decide(&mut self, engine: &Engine, view: View<'_>, at: usize, owner: Owner) {
        let absolute = view.base.saturating_add(at);
        match owner {
            Owner::Known(index) => {
                let around = engine.anchors.get(index).and_then(|a| a.around(view.text.as_bytes(), at));
                if let Some((start, end)) = around {
                    let start = floor(view.text, start).saturating_add(view.base);
                    let end = ceil(view.text, end).saturating_add(view.base);
                    self.pending.push(Found { start, end, index: 0, verified: true });
                }
            }
            Owner::Rule(index) => {
                let (Some(ready), Some(resume)) = (engine.rules.get(index), self.resume.get(index)) else { return };
                if absolute < *resume {
                    return;
                }
                let secret = if ready.rule.reach_bytes == 0 {
                    if ready.rule.boundary && !begins_word(view.text.as_bytes(), at) {
                        return;
                    }
                    let rest = view.text.get(at..).unwrap_or_default();
                    ready.at_start(rest).map(|(s, e)| (at.saturating_add(s), at.saturating_add(e)))
                } else {
                    let from = at.saturating_sub(usize::from(ready.rule.reach_bytes)).max(view.at(*resume));
                    let until = at.saturating_add(ready.span).saturating_add(CONTEXT_BYTES);
                    let part = view.text.get(..ceil(view.text, until)).unwrap_or_default();
                    ready.around(part, floor(view.text, from), at)
                };
                let Some((start, end)) = secret else { return };
                let Some((verified, end, run)) = ready.judge(view.text, start, end) else { return };
                let start = view.base.saturating_add(start);
                let tail = ready.rule.tail;
                self.accept(
                    view,
                    Found { start, end: view.base.saturating_add(end), index, verified },
                    tail,
                    run,
                    index,
                );
            }
            Owner::Encoded { rule: index, shift, first } => {
                let slot = engine.rules.len().saturating_add(index);
                let (Some(ready), Some(resume)) = (engine.rules.get(index), self.resume.get(slot)) else { return };
                let Some(group) = at.checked_sub(first).filter(|_| absolute >= *resume) else { return };
                let bytes = view.text.as_bytes();
                if !bytes.get(group..at).is_some_and(|b| b.iter().all(|b| base64::is_digit(*b))) {
                    return;
                }
                // A few bytes first: most of what looks like a keyword goes on as something else.
                let few = unwrapped(bytes, group, shift, ENOUGH_BYTES);
                if ready.rule.tail != Tail::Pem && ready.at_start(&few).is_none() {
                    return;
                }
                let decoded = unwrapped(bytes, group, shift, DECODED_BYTES);
                let Some((start, end)) = ready.at_start(&decoded) else { return };
                let Some((verified, _, _)) = ready.judge(&decoded, start, end) else { return };
                let (start, tail) = (view.base.saturating_add(group), Tail::Base64);
                self.accept(view, Found { start, end: absolute, index, verified }, tail, tail.run(), slot);
            }
        }
    }

    fn accept(&mut self, view: View<'_>, found: Found, tail: Tail, mut run: Run, slot: usize) {
        let end = self.follow(view, tail, &mut run, found.end);
        let (start, index) = (found.start, found.index.saturating_add(1));
        self.pending.push(Found { end, index, ..found });
        self.keep(view, Growing { start, index, end, tail, run, slot });
    }

    /// Gives out everything before a place; every match that begins before it is known.
    fn emit(&mut self, engine: &Engine, view: View<'_>, limit: usize, sink: &mut Sink<'_>) {
        self.pending.sort_unstable_by_key(|f| (f.start, f.index));
        let known = self.pending.partition_point(|f| f.start < limit);
        for found in self.pending.drain(..known).collect::<Vec<_>>() {
            if found.start < self.covered {
                self.covered = self.covered.max(found.end);
                continue;
            }
            self.close(sink);
            self.copy(view, found.start, sink);
            let (label, id, kind, severity) = engine.about(found.index);
            sink.text.push_str(label);
            let range = found.start..found.end;
            self.current = Some(Finding { rule: id.to_owned(), kind, severity, verified: found.verified, range });
            self.emitted = found.start;
            self.covered = found.end;
        }
        self.copy(view, limit, sink);
    }

    /// Gives out what is not covered before a place.
    fn copy(&mut self, view: View<'_>, to: usize, sink: &mut Sink<'_>) {
        let from = self.emitted.max(self.covered);
        if to > from {
            self.close(sink);
            sink.text.push_str(view.text.get(view.at(from)..view.at(to)).unwrap_or_default());
        }
        self.emitted = from.max(to).min(view.end());
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        if let Some(mut finding) = self.current.take() {
            finding.range.end = self.covered;
            sink.findings.push(finding);
        }
    }
}

/// What is written in base64 from a place on, as far as it is text, without the first `skip` bytes.
fn unwrapped(bytes: &[u8], from: usize, skip: usize, most: usize) -> String {
    let until = from.saturating_add(most.saturating_mul(3) / 2).min(bytes.len());
    let mut decoded = base64::decode(bytes.get(from..until).unwrap_or_default(), most);
    decoded.drain(..skip.min(decoded.len()));
    match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(e) => {
            let valid = e.utf8_error().valid_up_to();
            let mut bytes = e.into_bytes();
            bytes.truncate(valid);
            String::from_utf8(bytes).unwrap_or_default()
        }
    }
}

/// Whether a word begins here: what stands before is neither letter, digit nor `_`, or it is the end of an escape.
fn begins_word(text: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).and_then(|at| text.get(at)).copied();
    let Some(last) = before(1) else { return true };
    if !(last.is_ascii_alphanumeric() || last == b'_') {
        return true;
    }
    let hex = |n: usize| before(n).is_some_and(|b| b.is_ascii_hexdigit());
    let escaped = matches!(last, b'n' | b'r' | b't' | b'b' | b'f' | b'0') && before(2) == Some(b'\\');
    let in_hex = hex(1) && hex(2) && (before(3) == Some(b'%') || (before(3) == Some(b'x') && before(4) == Some(b'\\')));
    let unicode = hex(1) && hex(2) && hex(3) && hex(4) && before(5) == Some(b'u') && before(6) == Some(b'\\');
    // The end of a terminal's colour: `ESC [ 3 2 m`.
    let colour = last == b'm'
        && (2..CONTEXT_BYTES).map(before).take_while(|b| b.is_some_and(|b| b.is_ascii_digit() || b == b';')).count()
            > 0
        && (2..CONTEXT_BYTES).map(before).any(|b| b == Some(b'['));
    escaped || in_hex || unicode || colour
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

fn ceil(text: &str, at: usize) -> usize {
    text.ceil_char_boundary(at)
}
