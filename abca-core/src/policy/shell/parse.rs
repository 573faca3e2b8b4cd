//! Commands, as they are written: a flat list, whatever control flow stands around them.

use super::cursor::{Budget, Cursor};
use super::word::{Part, Parts, bare};
use super::{Problem, RedirectKind};

/// What a command of the text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It runs.
    Command,
    /// The words are what a loop's variable takes.
    Loop(String),
}

/// A simple command before anything in it is expanded.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) role: Role,
    /// Name, value, and whether the value replaces what was there.
    pub(super) assignments: Vec<(String, Parts, bool)>,
    pub(super) words: Vec<Parts>,
    pub(super) redirects: Vec<(RedirectKind, Parts)>,
    pub(super) stdin: Option<Parts>,
    /// The commands that write into its standard input.
    pub(super) upstream: (usize, usize),
    /// It runs for sure, in this very shell, if the text runs at all.
    pub(super) sure: bool,
}

impl Raw {
    const fn new(role: Role, upstream: (usize, usize), sure: bool) -> Self {
        Self { role, assignments: Vec::new(), words: Vec::new(), redirects: Vec::new(), stdin: None, upstream, sure }
    }

    const fn is_empty(&self) -> bool {
        self.assignments.is_empty() && self.words.is_empty() && self.redirects.is_empty() && self.stdin.is_none()
    }
}

/// A here-document whose text is still to come.
#[derive(Debug)]
struct Pending {
    raw: usize,
    until: String,
    strip_tabs: bool,
    literal: bool,
}

/// What ends a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Text,
    Paren,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Brace,
    Paren,
    If,
    Loop,
    /// Whether a pattern comes next.
    Case(bool),
}

/// A compound command that is not closed yet.
#[derive(Debug, Clone, Copy)]
struct Group {
    open: Open,
    from: usize,
    upstream: (usize, usize),
}

const NOBODY: (usize, usize) = (0, 0);

/// Reads a text.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    pub(super) cur: Cursor<'a>,
    pub(super) budget: Budget,
    pub(super) raws: Vec<Raw>,
    /// Variables that get a value that is not computed.
    pub(super) touched: Vec<String>,
    pub(super) functions: Vec<String>,
    heredocs: Vec<Pending>,
    inside: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, budget: Budget) -> Self {
        Self {
            cur: Cursor::new(text),
            budget,
            raws: Vec::new(),
            touched: Vec::new(),
            functions: Vec::new(),
            heredocs: Vec::new(),
            inside: 0,
        }
    }

    /// Reads all of it. What was read before a problem stays in `raws`.
    pub(super) fn text(&mut self) -> Result<(), Problem> {
        self.list(End::Text)?;
        // The shell takes a missing here-document for an empty one.
        self.heredocs()
    }

    /// The commands up to the `)` that closes a substitution.
    pub(super) fn nested_list(&mut self) -> Result<(usize, usize), Problem> {
        self.budget.deeper()?;
        self.inside = self.inside.saturating_add(1);
        let from = self.raws.len();
        self.list(End::Paren)?;
        self.inside = self.inside.saturating_sub(1);
        self.budget.back();
        Ok((from, self.raws.len()))
    }

    /// The commands of a text of its own.
    pub(super) fn nested_text(&mut self, text: &str) -> Result<(usize, usize), Problem> {
        let from = self.raws.len();
        self.within(text, |inner| inner.text())?;
        Ok((from, self.raws.len()))
    }

    /// Reads another text with what this one has left.
    fn within<T>(
        &mut self,
        text: &str,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.budget.deeper()?;
        let mut inner = Parser::new(text, self.budget.clone());
        inner.inside = self.inside.saturating_add(1);
        inner.raws = std::mem::take(&mut self.raws);
        inner.touched = std::mem::take(&mut self.touched);
        inner.functions = std::mem::take(&mut self.functions);
        let done = read(&mut inner);
        self.raws = inner.raws;
        self.touched = inner.touched;
        self.functions = inner.functions;
        self.budget = inner.budget;
        self.budget.back();
        done
    }

    // -- lists ----------------------------------------------------------------------------------------------------

    fn list(&mut self, end: End) -> Result<(), Problem> {
        let mut stack: Vec<Group> = Vec::new();
        let mut pipe = NOBODY;
        let mut last = NOBODY;
        let mut first = true;
        loop {
            self.budget.pay(1)?;
            if self.raws.len() > self.budget.limits.commands {
                return Err(Problem::TooMany);
            }
            self.blanks();
            if let Some(Group { open: Open::Case(pattern @ true), .. }) = stack.last_mut() {
                if self.patterns()? {
                    *pattern = false;
                } else if let Some(group) = stack.pop() {
                    last = self.after(group)?;
                }
                continue;
            }
            let Some(c) = self.cur.peek() else {
                return if stack.is_empty() && end == End::Text { Ok(()) } else { Err(Problem::Unclosed) };
            };
            match c {
                b'\n' => {
                    self.newline()?;
                    first = first || pipe == NOBODY;
                }
                b';' => {
                    self.cur.skip(1);
                    let clause = self.cur.eat(";") | self.cur.eat("&");
                    match stack.last_mut() {
                        Some(Group { open: Open::Case(pattern), .. }) if clause => *pattern = true,
                        Some(_) | None if clause => return Err(Problem::Syntax),
                        Some(_) | None => {}
                    }
                    (first, pipe) = (true, NOBODY);
                }
                b'&' if self.cur.looking_at("&&") => {
                    self.cur.skip(2);
                    (first, pipe) = (false, NOBODY);
                }
                b'&' if !self.cur.looking_at("&>") => {
                    self.cur.skip(1);
                    self.unsure(last);
                    (first, pipe) = (true, NOBODY);
                }
                b'|' if self.cur.looking_at("||") => {
                    self.cur.skip(2);
                    (first, pipe) = (false, NOBODY);
                }
                b'|' => {
                    self.cur.skip(1);
                    self.cur.eat("&");
                    self.unsure(last);
                    (first, pipe) = (false, last);
                }
                b'(' => {
                    let here = self.cur.at();
                    if self.cur.eat("((") {
                        if self.arithmetic(b")")? {
                            last = NOBODY;
                            continue;
                        }
                        self.cur.goto(here);
                    }
                    self.cur.skip(1);
                    stack.push(self.group(Open::Paren, pipe, &stack));
                    (first, pipe) = (true, NOBODY);
                }
                b')' => match stack.pop() {
                    Some(group) if group.open == Open::Paren => {
                        self.cur.skip(1);
                        last = self.after(group)?;
                        pipe = NOBODY;
                    }
                    None if end == End::Paren => {
                        self.cur.skip(1);
                        return Ok(());
                    }
                    Some(_) | None => return Err(Problem::Syntax),
                },
                _ => {
                    let inherited = stack.last().map_or(NOBODY, |g| g.upstream);
                    let upstream = if pipe == NOBODY { inherited } else { pipe };
                    let sure = stack.is_empty() && self.inside == 0 && first && pipe == NOBODY;
                    let from = self.raws.len();
                    let piped = std::mem::replace(&mut pipe, NOBODY);
                    match self.step(&mut stack, upstream, sure)? {
                        Step::Command => {
                            last = (from, self.raws.len());
                            first = false;
                        }
                        Step::Opened => (first, last) = (true, NOBODY),
                        Step::Closed(group) => last = self.after(group)?,
                        // `! cmd`, `time cmd`, `f() …`: what comes is still the pipeline's.
                        Step::Prefix => pipe = piped,
                    }
                }
            }
        }
    }

    fn group(&self, open: Open, pipe: (usize, usize), stack: &[Group]) -> Group {
        let upstream = if pipe == NOBODY { stack.last().map_or(NOBODY, |g| g.upstream) } else { pipe };
        Group { open, from: self.raws.len(), upstream }
    }

    /// Redirections after a compound command; answers what it all was.
    fn after(&mut self, group: Group) -> Result<(usize, usize), Problem> {
        let mut raw = Raw::new(Role::Command, NOBODY, false);
        let at = self.raws.len();
        loop {
            self.blanks();
            if !self.redirect(&mut raw, at)? {
                break;
            }
        }
        if !raw.is_empty() {
            // A document that goes to a loop is what its commands read.
            self.raws.push(raw);
        }
        Ok((group.from, self.raws.len()))
    }

    fn unsure(&mut self, (from, to): (usize, usize)) {
        for raw in self.raws.iter_mut().take(to).skip(from) {
            raw.sure = false;
        }
    }

    // -- commands -------------------------------------------------------------------------------------------------

    fn step(&mut self, stack: &mut Vec<Group>, upstream: (usize, usize), sure: bool) -> Result<Step, Problem> {
        let before = self.cur.at();
        let first = if self.at_redirect() { None } else { self.word()? };
        if first.is_none() && !self.at_redirect() {
            return Err(Problem::Syntax);
        }
        let keyword = first.as_ref().and_then(bare).map(str::to_owned);
        let open = stack.last().map(|g| g.open);
        let group = |open| Group { open, from: self.raws.len(), upstream };
        match keyword.as_deref() {
            Some("if") => stack.push(group(Open::If)),
            Some("while" | "until") => stack.push(group(Open::Loop)),
            Some("then" | "elif" | "else") if open == Some(Open::If) => return Ok(Step::Opened),
            Some("do") if open == Some(Open::Loop) => return Ok(Step::Opened),
            Some("{") => stack.push(group(Open::Brace)),
            Some("fi") if open == Some(Open::If) => return stack.pop().map(Step::Closed).ok_or(Problem::Syntax),
            Some("done") if open == Some(Open::Loop) => return stack.pop().map(Step::Closed).ok_or(Problem::Syntax),
            Some("}") if open == Some(Open::Brace) => return stack.pop().map(Step::Closed).ok_or(Problem::Syntax),
            Some("esac") if open == Some(Open::Case(false)) => {
                return stack.pop().map(Step::Closed).ok_or(Problem::Syntax);
            }
            Some("then" | "elif" | "else" | "do" | "fi" | "done" | "}" | "esac" | "coproc") => {
                return Err(Problem::Syntax);
            }
            Some("for" | "select") => {
                let entry = group(Open::Loop);
                stack.push(entry);
                self.for_header(keyword.as_deref() == Some("for"))?;
            }
            Some("case") => {
                let entry = group(Open::Case(true));
                self.blanks();
                self.word()?.ok_or(Problem::Syntax)?;
                self.lines()?;
                let word = self.word()?.ok_or(Problem::Syntax)?;
                if bare(&word) != Some("in") {
                    return Err(Problem::Syntax);
                }
                stack.push(entry);
            }
            Some("[[") => {
                self.condition()?;
                return Ok(Step::Command);
            }
            Some("function") => {
                self.blanks();
                let name = self.word()?.ok_or(Problem::Syntax)?;
                self.functions.push(bare(&name).ok_or(Problem::Syntax)?.to_owned());
                self.blanks();
                if self.cur.eat("(") {
                    self.blanks();
                    if !self.cur.eat(")") {
                        return Err(Problem::Syntax);
                    }
                }
                self.lines()?;
                return Ok(Step::Prefix);
            }
            Some("!") => return Ok(Step::Prefix),
            Some("time") => {
                self.blanks();
                if self.cur.looking_at("-p ") {
                    self.cur.skip(2);
                }
                return Ok(Step::Prefix);
            }
            Some(_) | None => {
                self.cur.goto(before);
                return self.command(upstream, sure);
            }
        }
        Ok(Step::Opened)
    }

    fn command(&mut self, upstream: (usize, usize), sure: bool) -> Result<Step, Problem> {
        let mut raw = Raw::new(Role::Command, upstream, sure);
        // Commands in its words come before it: its place is known at the end.
        let mut documents = Vec::new();
        loop {
            self.budget.pay(1)?;
            self.blanks();
            let heredocs = self.heredocs.len();
            if self.redirect(&mut raw, usize::MAX)? {
                documents.extend(heredocs..self.heredocs.len());
                continue;
            }
            let Some(parts) = self.word()? else { break };
            let array = self.cur.peek() == Some(b'(') && ends_assigning(&parts);
            if array {
                self.cur.skip(1);
                self.array()?;
            }
            if raw.words.is_empty()
                && let Some((name, value, replaces)) = assignment(&parts)
            {
                if array || !replaces {
                    self.touched.push(name.clone());
                }
                raw.assignments.push((name, value, replaces && !array));
                continue;
            }
            if array && let Some((name, ..)) = assignment(&parts) {
                self.touched.push(name);
            }
            if raw.words.is_empty() && raw.assignments.is_empty() {
                self.blanks();
                if self.cur.peek() == Some(b'(') {
                    // Only `name()` may be followed by a bracket.
                    let name = plain(&parts).ok_or(Problem::Syntax)?;
                    self.cur.skip(1);
                    self.blanks();
                    if !self.cur.eat(")") {
                        return Err(Problem::Syntax);
                    }
                    self.functions.push(name);
                    self.lines()?;
                    return Ok(Step::Prefix);
                }
            }
            raw.words.push(parts);
        }
        if self.cur.peek() == Some(b'(') {
            return Err(Problem::Syntax);
        }
        if raw.is_empty() {
            return Err(Problem::Syntax);
        }
        let at = self.raws.len();
        for i in documents {
            if let Some(pending) = self.heredocs.get_mut(i) {
                pending.raw = at;
            }
        }
        self.raws.push(raw);
        Ok(Step::Command)
    }

    fn array(&mut self) -> Result<(), Problem> {
        loop {
            self.budget.pay(1)?;
            self.lines()?;
            if self.cur.eat(")") {
                return Ok(());
            }
            self.word()?.ok_or(Problem::Unclosed)?;
        }
    }

    /// After `for` or `select`.
    fn for_header(&mut self, values_known: bool) -> Result<(), Problem> {
        self.blanks();
        if self.cur.eat("((") {
            return if self.arithmetic(b")")? { Ok(()) } else { Err(Problem::Unclosed) };
        }
        let name = self.word()?.and_then(|w| bare(&w).map(str::to_owned)).ok_or(Problem::Syntax)?;
        let mut raw = Raw::new(Role::Loop(name.clone()), NOBODY, false);
        self.lines()?;
        let here = self.cur.at();
        let listed = self.word()?.is_some_and(|w| bare(&w) == Some("in"));
        if !listed {
            self.cur.goto(here);
            self.touched.push(name);
            return Ok(());
        }
        loop {
            self.budget.pay(1)?;
            self.blanks();
            match self.word()? {
                Some(word) => raw.words.push(word),
                None => break,
            }
        }
        if values_known {
            self.raws.push(raw);
        } else {
            self.touched.push(name);
        }
        Ok(())
    }

    /// The patterns of a clause. `false` at `esac`.
    fn patterns(&mut self) -> Result<bool, Problem> {
        self.lines()?;
        let bracket = self.cur.eat("(");
        let mut first = true;
        loop {
            self.budget.pay(1)?;
            self.blanks();
            let word = self.word()?.ok_or(Problem::Syntax)?;
            if first && !bracket && bare(&word) == Some("esac") {
                return Ok(false);
            }
            first = false;
            self.blanks();
            if self.cur.eat(")") {
                return Ok(true);
            }
            if !self.cur.eat("|") {
                return Err(Problem::Syntax);
            }
        }
    }

    /// After `[[`.
    fn condition(&mut self) -> Result<(), Problem> {
        loop {
            self.budget.pay(1)?;
            self.lines()?;
            match self.word()? {
                Some(word) if bare(&word) == Some("]]") => return Ok(()),
                Some(_) => {}
                None => {
                    self.cur.bump().ok_or(Problem::Unclosed)?;
                }
            }
        }
    }

    // -- redirections ---------------------------------------------------------------------------------------------

    fn at_redirect(&self) -> bool {
        let mut ahead = 0_usize;
        while self.cur.peek_at(ahead).is_some_and(|c| c.is_ascii_digit()) {
            ahead = ahead.saturating_add(1);
        }
        match self.cur.peek_at(ahead) {
            Some(b'<' | b'>') => self.cur.peek_at(ahead.saturating_add(1)) != Some(b'('),
            Some(b'&') => ahead == 0 && self.cur.peek_at(1) == Some(b'>'),
            Some(_) | None => false,
        }
    }

    /// A redirection, if one begins here.
    fn redirect(&mut self, raw: &mut Raw, at: usize) -> Result<bool, Problem> {
        if !self.at_redirect() {
            return Ok(false);
        }
        while self.cur.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.cur.skip(1);
        }
        let cur = &mut self.cur;
        let (kind, dup) = if cur.eat("<<<") {
            self.blanks();
            let word = self.word()?.ok_or(Problem::Syntax)?;
            raw.stdin = Some(word);
            return Ok(true);
        } else if cur.eat("<<") {
            let strip_tabs = cur.eat("-");
            self.blanks();
            let word = self.word()?.ok_or(Problem::Syntax)?;
            let mut until = String::new();
            let mut literal = false;
            for part in &word {
                match part {
                    Part::Text { text, quoted } => {
                        until.push_str(text);
                        literal |= quoted;
                    }
                    Part::Wild(c) | Part::Brace(c) => until.push(*c),
                    Part::Home => until.push('~'),
                    // The shell takes them as letters; nobody writes so.
                    Part::Var { .. } | Part::Commands { .. } | Part::Process { .. } | Part::Unknown { .. } => {
                        return Err(Problem::Syntax);
                    }
                }
            }
            self.heredocs.push(Pending { raw: at, until, strip_tabs, literal });
            return Ok(true);
        } else if cur.eat("<&") {
            (RedirectKind::Read, true)
        } else if cur.eat("<>") || cur.eat("&>>") || cur.eat("&>") || cur.eat(">>") || cur.eat(">|") {
            (RedirectKind::Write, false)
        } else if cur.eat(">&") {
            (RedirectKind::Write, true)
        } else if cur.eat("<") {
            (RedirectKind::Read, false)
        } else {
            cur.skip(1);
            (RedirectKind::Write, false)
        };
        self.blanks();
        let word = self.word()?.ok_or(Problem::Syntax)?;
        let number = plain(&word).is_some_and(|w| w.trim_end_matches('-').chars().all(|c| c.is_ascii_digit()));
        if !(dup && number) {
            raw.redirects.push((kind, word));
        }
        Ok(true)
    }

    /// The texts of here-documents, after the line in which they began.
    fn heredocs(&mut self) -> Result<(), Problem> {
        for pending in std::mem::take(&mut self.heredocs) {
            let mut body = String::new();
            while let Some(line) = self.cur.line() {
                self.budget.pay(line.len())?;
                let line = if pending.strip_tabs { line.trim_start_matches('\t') } else { line };
                if line.strip_suffix('\n').unwrap_or(line) == pending.until {
                    break;
                }
                body.push_str(line);
            }
            let parts = if pending.literal {
                vec![Part::Text { text: body, quoted: true }]
            } else {
                self.within(&body, |inner| inner.document())?
            };
            if let Some(raw) = self.raws.get_mut(pending.raw) {
                raw.stdin = Some(parts);
            }
        }
        Ok(())
    }

    /// A here-document's text, in which the shell expands.
    fn document(&mut self) -> Result<Parts, Problem> {
        let mut parts = vec![Part::Text { text: String::new(), quoted: true }];
        let mut from = self.cur.at();
        loop {
            self.budget.pay(1)?;
            let special = matches!(self.cur.peek(), None | Some(b'\\' | b'$' | b'`'));
            if special && self.cur.at() > from {
                let text = self.cur.slice(from, self.cur.at()).to_owned();
                parts.push(Part::Text { text, quoted: true });
            }
            match self.cur.peek() {
                None => return Ok(parts),
                Some(b'\\') => {
                    self.cur.skip(1);
                    let text = match self.cur.peek() {
                        Some(b'\n') => {
                            self.cur.skip(1);
                            String::new()
                        }
                        Some(c @ (b'$' | b'`' | b'\\')) => {
                            self.cur.skip(1);
                            char::from(c).to_string()
                        }
                        Some(_) | None => "\\".to_owned(),
                    };
                    parts.push(Part::Text { text, quoted: true });
                    from = self.cur.at();
                }
                Some(b'$') => {
                    self.dollar(&mut parts, true)?;
                    from = self.cur.at();
                }
                Some(b'`') => {
                    self.backtick(&mut parts, true)?;
                    from = self.cur.at();
                }
                Some(_) => {
                    self.cur.bump();
                }
            }
        }
    }

    // -- white space ----------------------------------------------------------------------------------------------

    /// Lines that go on in the next.
    pub(super) fn continuations(&mut self) {
        while self.cur.eat("\\\n") {}
    }

    /// Spaces, tabs, continued lines and comments.
    fn blanks(&mut self) {
        loop {
            match self.cur.peek() {
                Some(b' ' | b'\t') => self.cur.skip(1),
                Some(b'\\') if self.cur.peek_at(1) == Some(b'\n') => self.cur.skip(2),
                Some(b'#') => {
                    while self.cur.peek().is_some_and(|c| c != b'\n') {
                        self.cur.skip(1);
                    }
                }
                Some(_) | None => return,
            }
        }
    }

    /// The same, with line breaks.
    fn lines(&mut self) -> Result<(), Problem> {
        loop {
            self.blanks();
            if self.cur.peek() != Some(b'\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn newline(&mut self) -> Result<(), Problem> {
        self.cur.skip(1);
        self.heredocs()
    }
}

enum Step {
    Command,
    Opened,
    Closed(Group),
    Prefix,
}

/// The text of a word of letters alone, quoted or not.
fn plain(parts: &Parts) -> Option<String> {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text { text, .. } => out.push_str(text),
            Part::Wild(_)
            | Part::Brace(_)
            | Part::Home
            | Part::Var { .. }
            | Part::Commands { .. }
            | Part::Process { .. }
            | Part::Unknown { .. } => return None,
        }
    }
    Some(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

fn ends_assigning(parts: &Parts) -> bool {
    assignment(parts).is_some_and(|(_, value, _)| value.is_empty())
}

/// `name=value`, `name+=value`, `name[…]=value`.
pub(super) fn assignment(parts: &Parts) -> Option<(String, Parts, bool)> {
    let (first, rest) = parts.split_first()?;
    let Part::Text { text, quoted: false } = first else { return None };
    let value = |text: &str, rest: &[Part]| {
        let mut value = Parts::new();
        if !text.is_empty() {
            value.push(Part::Text { text: text.to_owned(), quoted: false });
        }
        value.extend(rest.iter().cloned());
        value
    };
    if let Some((name, after)) = text.split_once('=') {
        let (name, replaces) = name.strip_suffix('+').map_or((name, true), |n| (n, false));
        return is_name(name).then(|| (name.to_owned(), value(after, rest), replaces));
    }
    if is_name(text) && rest.first() == Some(&Part::Wild('[')) {
        let close = rest.iter().position(|p| *p == Part::Wild(']'))?;
        let Some(Part::Text { text: after, quoted: false }) = rest.get(close.saturating_add(1)) else { return None };
        let after = after.strip_prefix("+=").or_else(|| after.strip_prefix('='))?;
        let rest = rest.get(close.saturating_add(2)..).unwrap_or_default();
        return Some((text.clone(), value(after, rest), false));
    }
    None
}
