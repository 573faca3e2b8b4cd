//! HTML as readable text. Tokens come from `html5ever`; no tree is made, so nesting costs nothing.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};
use url::Url;

/// Most bytes of text that a page becomes; the rest is left out.
const TEXT_BYTES: usize = 4 << 20;
/// Longest address of a link that is shown.
const LINK_BYTES: usize = 500;

/// What people would read of a page: text, headings, lists, links with their addresses. Scripts, styles, comments and what
/// is hidden from people are left out.
pub(super) fn readable(html: &str, base: &Url) -> String {
    let sink = Sink { state: RefCell::new(State::default()), base: base.clone() };
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    let _no_script_runs = tokenizer.feed(&input);
    tokenizer.end();
    let state = tokenizer.sink.state.into_inner();
    let mut out = state.out.trim().to_owned();
    if state.full {
        out.push_str("\n\n[the rest of the page is left out]");
    }
    out
}

struct Sink {
    state: RefCell<State>,
    base: Url,
}

#[derive(Default)]
struct State {
    out: String,
    full: bool,
    /// The element whose content is left out, and how many of its name are open.
    skipped: Option<(String, usize)>,
    preformatted: usize,
    /// A blank is due before the next word.
    blank: bool,
    /// Addresses of open links.
    links: Vec<Option<String>>,
}

/// Left out with their content.
const SKIPPED: [&str; 14] = [
    "script", "style", "template", "svg", "math", "iframe", "object", "noframes", "noembed", "canvas", "audio",
    "video", "select", "textarea",
];
/// Have no content, so that nothing ends them.
const EMPTY: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];
/// Begin and end a line.
const BLOCKS: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "section",
    "summary",
    "table",
    "tr",
    "ul",
];

impl State {
    fn push(&mut self, text: &str) {
        if self.out.len() + text.len() > TEXT_BYTES {
            self.full = true;
        } else {
            self.out.push_str(text);
        }
    }

    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            return self.push(text);
        }
        let mut words = text.split_ascii_whitespace().peekable();
        if text.starts_with(|c: char| c.is_ascii_whitespace()) {
            self.blank = true;
        }
        while let Some(word) = words.next() {
            if self.blank && !self.out.is_empty() && !self.out.ends_with(['\n', ' ', '[']) {
                self.push(" ");
            }
            self.push(word);
            self.blank = words.peek().is_some();
        }
        self.blank |= text.ends_with(|c: char| c.is_ascii_whitespace());
    }

    /// So many line ends, counting those that are there.
    fn lines(&mut self, wanted: usize) {
        self.blank = false;
        if self.out.is_empty() {
            return;
        }
        let there = self.out.bytes().rev().take_while(|b| *b == b'\n').count();
        for _ in there..wanted {
            self.push("\n");
        }
    }

    fn word(&mut self, text: &str) {
        if self.blank && !self.out.is_empty() && !self.out.ends_with(['\n', ' ', '[']) {
            self.push(" ");
        }
        self.blank = false;
        self.push(text);
    }
}

impl Sink {
    fn tag(&self, state: &mut State, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let opens = tag.kind == TagKind::StartTag;
        if let Some((skipped, depth)) = &mut state.skipped {
            if skipped == name {
                *depth = if opens { *depth + 1 } else { *depth - 1 };
                if *depth == 0 {
                    state.skipped = None;
                }
            }
            return TokenSinkResult::Continue;
        }
        if opens && !EMPTY.contains(&name) && !tag.self_closing && (SKIPPED.contains(&name) || is_hidden(tag)) {
            state.skipped = Some((name.to_owned(), 1));
            return raw(name);
        }
        match name {
            "br" => state.lines(1),
            "pre" if opens => {
                state.lines(2);
                state.push("```\n");
                state.preformatted += 1;
            }
            "pre" if state.preformatted > 0 => {
                state.preformatted -= 1;
                state.lines(1);
                state.push("```\n\n");
            }
            "li" if opens => {
                state.lines(1);
                state.push("- ");
            }
            "li" => state.lines(1),
            // The end of the cell before it may go without saying.
            "td" | "th" if opens && !state.out.ends_with('\n') => {
                state.blank = true;
                state.word("| ");
            }
            "td" | "th" => state.blank = true,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if opens => {
                state.lines(2);
                let level = usize::from(name.as_bytes().last().map_or(1, |b| b.saturating_sub(b'0')));
                state.push(&"#".repeat(level));
                state.push(" ");
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => state.lines(2),
            "title" if opens => {
                state.lines(1);
                state.word("Title: ");
                return raw(name);
            }
            "title" => state.lines(2),
            "p" => state.lines(2),
            "a" if opens && state.links.len() < 100 => {
                let to = attribute(tag, "href").and_then(|href| self.link(href));
                if to.is_some() {
                    state.word("[");
                }
                state.links.push(to);
            }
            "a" if !opens => {
                if let Some(Some(to)) = state.links.pop() {
                    state.push(&format!("]({to})"));
                }
            }
            "img" => {
                if let Some(alt) = attribute(tag, "alt").filter(|alt| !alt.trim().is_empty()) {
                    let alt: String = alt.trim().chars().take(200).collect();
                    state.word(&format!("[image: {alt}]"));
                }
            }
            name if BLOCKS.contains(&name) => state.lines(1),
            _ => {}
        }
        TokenSinkResult::Continue
    }

    /// A link to somewhere else, in full.
    fn link(&self, href: &str) -> Option<String> {
        let href = href.trim();
        if href.is_empty() || href.starts_with('#') || href.len() > LINK_BYTES {
            return None;
        }
        let url = self.base.join(href).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        Some(url.to_string()).filter(|text| text.len() <= LINK_BYTES)
    }
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.state.borrow_mut();
        match token {
            Token::CharacterTokens(text) if state.skipped.is_none() => state.text(&text),
            Token::TagToken(tag) => return self.tag(&mut state, &tag),
            Token::CharacterTokens(_)
            | Token::DoctypeToken(_)
            | Token::CommentToken(_)
            | Token::NullCharacterToken
            | Token::EOFToken
            | Token::ParseError(_) => {}
        }
        TokenSinkResult::Continue
    }
}

/// Elements whose content is no markup.
fn raw(name: &str) -> TokenSinkResult<()> {
    match name {
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        "style" | "iframe" | "noframes" | "noembed" => TokenSinkResult::RawData(RawKind::Rawtext),
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        _ => TokenSinkResult::Continue,
    }
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs.iter().find(|one| &*one.name.local == name).map(|one| &*one.value)
}

/// What people do not see is no text for the agent either.
fn is_hidden(tag: &Tag) -> bool {
    let style = attribute(tag, "style").unwrap_or_default();
    let style: String =
        style.chars().filter(|c| !c.is_whitespace()).take(2_000).collect::<String>().to_ascii_lowercase();
    attribute(tag, "hidden").is_some()
        || ["display:none", "visibility:hidden", "font-size:0", "opacity:0;"].iter().any(|part| style.contains(part))
        || style.ends_with("opacity:0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(html: &str) -> String {
        readable(html, &Url::parse("https://a.b/c/").unwrap())
    }

    #[test]
    fn a_page_reads_as_people_see_it() {
        let page = "<!doctype html><html><head><title>The &amp; page</title><style>p{}</style></head><body>\
            <h1>Head</h1><p>One  <b>two</b>,\n three.<p>Four<br>five <a href='../x?y'>link</a>, <a href='#z'>here</a>\
            <ul><li>a<li>b</ul><pre>  fn x() {\n  }</pre><table><tr><th>k<th>v<tr><td>1<td>2</table>\
            <img alt='a cat' src=x></body>";
        let want = "Title: The & page\n\n# Head\n\nOne two, three.\n\nFour\nfive [link](https://a.b/x?y), here\n- a\n- b\n\n\
            ```\n  fn x() {\n  }\n```\n\nk | v\n1 | 2\n[image: a cat]";
        assert_eq!(text(page), want);
    }

    #[test]
    fn what_people_do_not_see_is_left_out() {
        for hidden in [
            "<script>if (a < b) bad()</script>",
            "<style>bad</style>",
            "<!-- bad -->",
            "<div hidden>bad <div>bad</div> bad</div>",
            "<span style='DISPLAY : none'>bad</span>",
            "<svg><text>bad</text></svg>",
            "<template><p>bad</template>",
            "<iframe>bad</iframe>",
            "<textarea></p>bad</textarea>",
            "<a href='javascript:bad()'></a>",
        ] {
            assert_eq!(text(&format!("good {hidden} end")), "good end", "{hidden}");
        }
    }

    #[test]
    fn hostile_pages_take_no_longer_than_others() {
        let deep = "<div><a href=x><table><tr><td>".repeat(100_000);
        assert!(readable(&deep, &Url::parse("https://a.b/").unwrap()).len() <= TEXT_BYTES + 100);
        assert_eq!(text(&"</a></pre></li></title>".repeat(50_000)), "");
        let long = format!("<p>{}", "x ".repeat(5 << 20));
        assert!(text(&long).ends_with("[the rest of the page is left out]"));
        for odd in ["<", "<!--", "<a href=", "&#x110000;", "\0<p\0>", "<script>"] {
            let _total = text(odd);
        }
    }
}
