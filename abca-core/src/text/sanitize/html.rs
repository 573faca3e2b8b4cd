//! HTML elements, tags and comments outside code.
//!
//! Only well-formed tags of known elements count. What could as well be a type parameter or a comparison
//! (`List<Object>`, `a <b and c> d`) counts only when it is closed like an element.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Edit;
use super::code::Region;
use super::fold::Folded;
use super::trace::ChangeKind;

/// Elements that go with their content.
const ACTIVE: &[&str] = &[
    "applet", "embed", "form", "iframe", "input", "noembed", "noframes", "object", "script", "style", "template",
    "textarea",
];
/// Of these, the ones whose names hardly anybody gives a type parameter.
const PLAIN_ACTIVE: &[&str] = &["embed", "iframe", "script", "style"];
/// Elements that have no closing tag and are written right after words.
const BREAKS: &[&str] = &["br", "hr", "img", "wbr"];
/// Elements that never have content.
const EMPTY: &[&str] = &[
    "area", "base", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// The elements of HTML, those of old included; sorted.
const NAMES: &[&str] = &[
    "a",
    "abbr",
    "acronym",
    "address",
    "applet",
    "area",
    "article",
    "aside",
    "audio",
    "b",
    "base",
    "basefont",
    "bdi",
    "bdo",
    "bgsound",
    "big",
    "blink",
    "blockquote",
    "body",
    "br",
    "button",
    "canvas",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "data",
    "datalist",
    "dd",
    "del",
    "details",
    "dfn",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "em",
    "embed",
    "fieldset",
    "figcaption",
    "figure",
    "font",
    "footer",
    "form",
    "frame",
    "frameset",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hgroup",
    "hr",
    "html",
    "i",
    "iframe",
    "img",
    "input",
    "ins",
    "kbd",
    "label",
    "legend",
    "li",
    "link",
    "main",
    "map",
    "mark",
    "marquee",
    "math",
    "menu",
    "meta",
    "meter",
    "nav",
    "nobr",
    "noembed",
    "noframes",
    "noscript",
    "object",
    "ol",
    "optgroup",
    "option",
    "output",
    "p",
    "param",
    "picture",
    "plaintext",
    "pre",
    "progress",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "script",
    "search",
    "section",
    "select",
    "slot",
    "small",
    "source",
    "span",
    "strike",
    "strong",
    "style",
    "sub",
    "summary",
    "sup",
    "svg",
    "table",
    "tbody",
    "td",
    "template",
    "textarea",
    "tfoot",
    "th",
    "thead",
    "time",
    "title",
    "tr",
    "track",
    "tt",
    "u",
    "ul",
    "var",
    "video",
    "wbr",
    "xmp",
];

/// Attributes that need no value.
const FLAGS: &[&str] = &[
    "allowfullscreen",
    "async",
    "autofocus",
    "autoplay",
    "checked",
    "compact",
    "controls",
    "default",
    "defer",
    "disabled",
    "formnovalidate",
    "hidden",
    "inert",
    "ismap",
    "itemscope",
    "loop",
    "multiple",
    "muted",
    "nomodule",
    "noshade",
    "novalidate",
    "nowrap",
    "open",
    "playsinline",
    "readonly",
    "required",
    "reversed",
    "sandbox",
    "selected",
];

/// Most tags of a text that are told apart, so that the memory stays within bounds.
pub(super) const MAX_TAGS: usize = 200_000;

/// Most `<` inside one tag, so that every byte is read by a bounded number of tags.
const MAX_INNER: usize = 8;

/// What to cut, in order.
///
/// Active elements and comments first, then other tags, then closing tags of active elements without an opening one:
/// what only becomes an element by a cut still finds its end.
///
/// `None` when there are more than [`MAX_TAGS`].
pub(super) fn edits(folded: &Folded<'_>, code: &[Region]) -> Option<Vec<Edit>> {
    let tokens = tokens(folded, code);
    if tokens.len() > MAX_TAGS {
        return None;
    }
    let closers = closers(&tokens, folded.text().len());
    let stages = [Stage::Active, Stage::Other, Stage::Ends].into_iter();
    Some(stages.map(|stage| cuts(folded, &tokens, &closers, stage)).find(|cuts| !cuts.is_empty()).unwrap_or_default())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Active,
    Other,
    Ends,
}

fn cuts(folded: &Folded<'_>, tokens: &[Token], closers: &[Closer], stage: Stage) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut from = 0usize;
    for (token, closer) in tokens.iter().zip(closers) {
        let start = token.range.start;
        if start < from || token.kind.stage() != stage {
            continue;
        }
        let mut end = token.range.end;
        if let Kind::Open(open) = &token.kind {
            if !open.sure && closer.own.is_none() {
                continue;
            }
            let closing = match (open.hidden, open.sure && !open.may_be_empty) {
                (true, _) => None,
                (false, true) => closer.any,
                (false, false) => closer.own,
            };
            if let Some(closing) = closing.filter(|_| stage == Stage::Active).and_then(|c| tokens.get(c)) {
                end = closing.range.end;
            }
            if open.hidden {
                end = closer.balanced.max(end);
            }
        }
        edits.push(Edit { range: folded.origin(start..end), with: "", kind: Some(token.kind.change()) });
        from = end;
    }
    edits
}

struct Token {
    range: Range<usize>,
    kind: Kind,
}

enum Kind {
    Comment,
    /// The bracket of a tag that does not end within reason.
    Unreadable,
    Close(&'static str),
    Open(Open),
}

impl Kind {
    fn change(&self) -> ChangeKind {
        match self {
            Self::Comment => ChangeKind::Comment,
            Self::Open(open) if open.hidden => ChangeKind::HiddenElement,
            Self::Open(open) if ACTIVE.contains(&open.name) => ChangeKind::ActiveElement,
            Self::Unreadable | Self::Close(_) | Self::Open(_) => ChangeKind::Tag,
        }
    }

    fn stage(&self) -> Stage {
        match self {
            Self::Comment => Stage::Active,
            Self::Open(open) if open.hidden => Stage::Active,
            Self::Open(open) if ACTIVE.contains(&open.name) => Stage::Active,
            Self::Close(name) if ACTIVE.contains(name) => Stage::Ends,
            Self::Unreadable | Self::Open(_) | Self::Close(_) => Stage::Other,
        }
    }
}

struct Open {
    name: &'static str,
    /// Whether it is a tag for certain, even if nothing closes it.
    sure: bool,
    /// Whether it may stand without content.
    may_be_empty: bool,
    /// Whether a reader is not shown what is in it.
    hidden: bool,
}

/// The closing tags that may end an opening one, as positions among the tokens.
#[derive(Clone, Copy, Default)]
struct Closer {
    /// The next of its name.
    any: Option<usize>,
    /// The same, when no other of that name opens before it.
    own: Option<usize>,
    /// Where a hidden element ends, what is nested in it counted; nothing closes it: the text's end.
    balanced: usize,
}

fn closers(tokens: &[Token], len: usize) -> Vec<Closer> {
    let mut next: BTreeMap<&str, Closer> = BTreeMap::new();
    let mut closers: Vec<Closer> = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate().rev() {
        closers.push(match &token.kind {
            Kind::Comment | Kind::Unreadable => Closer::default(),
            Kind::Close(name) => {
                next.insert(name, Closer { any: Some(index), own: Some(index), balanced: 0 });
                Closer::default()
            }
            Kind::Open(open) => {
                let entry = next.entry(open.name).or_default();
                let closer = *entry;
                entry.own = None;
                closer
            }
        });
    }
    closers.reverse();
    let mut open: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Comment | Kind::Unreadable => {}
            Kind::Open(tag) if tag.may_be_empty => {}
            Kind::Open(tag) => {
                if let Some(closer) = closers.get_mut(index).filter(|_| tag.hidden) {
                    closer.balanced = len;
                }
                open.entry(tag.name).or_default().push(index);
            }
            Kind::Close(name) => {
                let opened = open.get_mut(name).and_then(Vec::pop);
                if let Some(closer) = opened.and_then(|opened| closers.get_mut(opened)) {
                    closer.balanced = token.range.end;
                }
            }
        }
    }
    closers
}

fn tokens(folded: &Folded<'_>, code: &[Region]) -> Vec<Token> {
    let text = folded.text();
    let mut found = Vec::new();
    let mut code = code.iter().peekable();
    let mut from = 0usize;
    let mut comments_end = true;
    for (at, _) in text.match_indices('<') {
        while code.peek().is_some_and(|region| region.range.end <= at) {
            code.next();
        }
        if at < from || code.peek().is_some_and(|region| region.range.start <= at) {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let token = if let Some(len) = bogus(rest) {
            Some((len, Kind::Comment))
        } else if rest.starts_with("<!--") {
            // `<!-->` and `<!--->` are whole.
            let end = comments_end.then(|| rest.get(2..).and_then(|r| r.find("-->"))).flatten();
            comments_end = end.is_some();
            match end {
                Some(end) => Some((end.saturating_add(5), Kind::Comment)),
                // A block that begins a line hides everything after it.
                None if begins_line(text, at) => Some((rest.len(), Kind::Comment)),
                None => None,
            }
        } else {
            Tag::read(rest).and_then(|tag| kind(folded, at, tag))
        };
        if let Some((len, kind)) = token {
            from = at.saturating_add(len);
            found.push(Token { range: at..from, kind });
            if found.len() > MAX_TAGS {
                break;
            }
        }
    }
    found
}

/// Longest declaration or instruction.
const BOGUS_BYTES: usize = 4096;

/// The length of what a browser takes for a comment too: `<![CDATA[…]]>`, `<!anything>`, `<?anything?>`. Not a document type, and not PHP or
/// XML, which people show each other.
fn bogus(text: &str) -> Option<usize> {
    let text = text.get(..text.floor_char_boundary(BOGUS_BYTES)).unwrap_or(text);
    let end = |mark: &str| text.find(mark).map(|at| at.saturating_add(mark.len()));
    if text.starts_with("<![cdata[") {
        return end("]]>");
    }
    if let Some(name) = text.strip_prefix("<!") {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.starts_with("doctype");
        return is_name.then(|| end(">")).flatten();
    }
    let name = text.strip_prefix("<?")?;
    let shown = ["php", "xml", "="].iter().any(|known| name.starts_with(known));
    (!shown && name.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| end("?>")).flatten()
}

fn begins_line(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let indent = before.len().saturating_sub(before.trim_end_matches(' ').len());
    indent <= 3 && before.get(..at.saturating_sub(indent)).is_none_or(|b| b.is_empty() || b.ends_with('\n'))
}

fn kind(folded: &Folded<'_>, at: usize, tag: Tag) -> Option<(usize, Kind)> {
    let name = tag.name;
    if !tag.ends {
        return Some((1, Kind::Unreadable));
    }
    if tag.closes {
        return Some((tag.len, Kind::Close(name)));
    }
    let before = folded.text().get(..at).unwrap_or_default();
    let sure = match tag.attributes {
        Attributes::Plain => true,
        Attributes::Odd => false,
        Attributes::None if tag.is_self_closing || BREAKS.contains(&name) => true,
        Attributes::None if is_after_name(before) => {
            let start = at.saturating_add(1);
            let written = folded.original(start..start.saturating_add(name.len()));
            // Types are written in both cases at once.
            let one_case = !written.contains(char::is_uppercase) || !written.contains(char::is_lowercase);
            PLAIN_ACTIVE.contains(&name) && one_case
        }
        Attributes::None => true,
    };
    let may_be_empty = tag.is_self_closing || EMPTY.contains(&name);
    let hidden = tag.hidden && !may_be_empty && matches!(tag.attributes, Attributes::Plain);
    Some((tag.len, Kind::Open(Open { name, sure, may_be_empty, hidden })))
}

/// Whether an angle bracket here would open type parameters, or name a header file.
fn is_after_name(before: &str) -> bool {
    let is_glued = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') || before.ends_with("::");
    let word = before.trim_end_matches(' ');
    is_glued || word.ends_with("#include") || word.ends_with("#import")
}

enum Attributes {
    None,
    /// Each has a value, or needs none.
    Plain,
    Odd,
}

struct Tag {
    name: &'static str,
    len: usize,
    closes: bool,
    is_self_closing: bool,
    attributes: Attributes,
    ends: bool,
    /// It says of itself that it is not shown.
    hidden: bool,
}

impl Tag {
    /// The tag that a text begins with: `<`, perhaps `/`, a known name, attributes, `>`.
    fn read(text: &str) -> Option<Self> {
        let mut chars = Reader { bytes: text.as_bytes(), at: 1, inner: 0 };
        let closes = chars.skip(b'/');
        let name = chars.name()?;
        let mut tag = Self {
            name,
            len: 0,
            closes,
            is_self_closing: false,
            attributes: Attributes::None,
            ends: true,
            hidden: false,
        };
        if !matches!(chars.peek()?, b' ' | b'\t' | b'\n' | b'/' | b'>') {
            return None;
        }
        loop {
            chars.skip_spaces();
            match chars.peek()? {
                b'>' => {
                    tag.len = chars.at.saturating_add(1);
                    return Some(tag);
                }
                b'/' => {
                    chars.at = chars.at.saturating_add(1);
                    tag.is_self_closing = chars.peek() == Some(b'>');
                }
                b'=' => return None,
                _ => match chars.attribute(ACTIVE.contains(&name))? {
                    Attribute::Plain { hides } => {
                        tag.hidden |= hides;
                        if matches!(tag.attributes, Attributes::None) {
                            tag.attributes = Attributes::Plain;
                        }
                    }
                    Attribute::Odd => tag.attributes = Attributes::Odd,
                    Attribute::Endless => return Some(Self { ends: false, ..tag }),
                },
            }
        }
    }
}

enum Attribute {
    Plain {
        /// It hides its element.
        hides: bool,
    },
    Odd,
    Endless,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many `<` were read.
    inner: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(is_there));
        is_there
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n')) {
            self.at = self.at.saturating_add(1);
        }
    }

    fn name(&mut self) -> Option<&'static str> {
        let rest = self.bytes.get(self.at..)?;
        let len = rest.iter().take(16).take_while(|b| b.is_ascii_alphanumeric()).count();
        let word = std::str::from_utf8(rest.get(..len)?).ok()?;
        let name = NAMES.binary_search(&word).ok().and_then(|found| NAMES.get(found))?;
        self.at = self.at.saturating_add(len);
        Some(name)
    }

    /// Reads up to a byte that ends what is read; `None` at the end of the text, `Some(false)` after too many `<`.
    fn until(&mut self, ends: impl Fn(u8) -> bool) -> Option<bool> {
        loop {
            let byte = self.peek()?;
            if ends(byte) {
                return Some(true);
            }
            if byte == b'<' {
                self.inner = self.inner.saturating_add(1);
                if self.inner > MAX_INNER {
                    return Some(false);
                }
            }
            self.at = self.at.saturating_add(1);
        }
    }

    /// An attribute, with its value. Outside quotes, a `<` ends all but the tags that must not get away.
    fn attribute(&mut self, is_active: bool) -> Option<Attribute> {
        let start = self.at;
        let in_name = |b: u8| !matches!(b, b' ' | b'\t' | b'\n' | b'/' | b'>' | b'=');
        if !self.until(|b| !in_name(b) || (b == b'<' && !is_active))? {
            return Some(Attribute::Endless);
        }
        if self.peek() == Some(b'<') {
            return None;
        }
        let named = start..self.at;
        let name = self.bytes.get(named.clone()).unwrap_or_default();
        self.skip_spaces();
        if !self.skip(b'=') {
            let is_flag = std::str::from_utf8(name).is_ok_and(|name| FLAGS.contains(&name));
            return Some(if is_flag { Attribute::Plain { hides: name == b"hidden" } } else { Attribute::Odd });
        }
        self.skip_spaces();
        let value = self.at;
        let quote = self.peek().filter(|b| matches!(b, b'"' | b'\''));
        let is_whole = match quote {
            Some(quote) => {
                self.at = self.at.saturating_add(1);
                let is_whole = self.until(|b| b == quote)?;
                self.at = self.at.saturating_add(1);
                is_whole
            }
            None => self.until(|b| matches!(b, b' ' | b'\t' | b'\n' | b'>'))?,
        };
        let hides = || hides(self.bytes.get(named), self.bytes.get(value..self.at));
        Some(if is_whole { Attribute::Plain { hides: hides() } } else { Attribute::Endless })
    }
}

/// Longest style that is read.
const STYLE_BYTES: usize = 2048;

/// Whether an attribute hides its element from readers.
fn hides(name: Option<&[u8]>, value: Option<&[u8]>) -> bool {
    let (Some(name), Some(value)) = (name, value) else { return false };
    let value = value.get(..STYLE_BYTES).unwrap_or(value);
    let plain: String = value
        .iter()
        .filter(|b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\''))
        .map(|b| char::from(*b))
        .collect();
    match name {
        b"hidden" => true,
        b"style" => {
            let zero = |property: &str| {
                plain.match_indices(property).any(|(at, _)| {
                    let value = plain.get(at.saturating_add(property.len())..).unwrap_or_default();
                    let number: String = value.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                    number.parse::<f64>().is_ok_and(|n| n <= 0.01)
                })
            };
            let says = |what: &[&str]| what.iter().any(|w| plain.contains(w));
            let white = says(&["color:white", "color:#fff", "color:rgb(255,255,255)", "color:transparent"]);
            says(&["display:none", "visibility:hidden", "clip:rect(0", "text-indent:-9", "left:-9", "top:-9"])
                || zero("font-size:")
                || zero("opacity:")
                || zero("max-height:")
                || (white && !plain.contains("background"))
        }
        b"color" => matches!(plain.as_str(), "white" | "#fff" | "#ffffff" | "transparent"),
        _ => false,
    }
}
