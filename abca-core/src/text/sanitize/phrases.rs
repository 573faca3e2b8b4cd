//! Phrases that call off earlier instructions.
//!
//! The phrases are the known ones in the languages most written on forges; a list like this is never complete.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use regex::Regex;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::Edit;
use super::fold::{Folded, fold};
use super::trace::ChangeKind;

const INSTRUCTION: &str = "[SANITIZED_INSTRUCTION]";

/// Takes out the phrases, in code too: no program is written in them.
pub(super) fn edits(folded: &Folded<'_>) -> Vec<Edit> {
    let Some(orders) = ORDERS.as_ref() else { return Vec::new() };
    let mut found = orders.found(folded.text());
    if let Some((joined, places)) = joined(folded.text()) {
        let back = |at: usize| {
            let after = places.partition_point(|(now, _)| *now <= at);
            let place = after.checked_sub(1).and_then(|n| places.get(n)).copied().unwrap_or_default();
            place.1.saturating_add(at.saturating_sub(place.0))
        };
        let spaced =
            orders.found(&joined).into_iter().map(|(s, e)| (back(s), back(e.saturating_sub(1)).saturating_add(1)));
        found.extend(spaced.filter(|(start, end)| folded.text().get(*start..*end).is_some()));
        found.sort_unstable();
    }
    let mut from = 0usize;
    let mut edits = Vec::new();
    for (start, end) in found {
        let range = folded.origin(start..end);
        // Two phrases may end and begin inside one character.
        let range = range.start.max(from)..range.end.max(from);
        if range.is_empty() {
            continue;
        }
        from = range.end;
        edits.push(Edit { range, with: INSTRUCTION, kind: Some(ChangeKind::Instruction) });
    }
    edits
}

/// Letters of a word this far apart are read as one.
const SPACED_LETTERS: usize = 4;

fn is_mark(byte: u8) -> bool {
    matches!(byte, b' ' | b'.' | b'-' | b'_' | b'*' | b'/')
}

/// A text in which words were written letter by letter (`i g n o r e`), with these put together, and which places of it are
/// which of the text; `None` when there are none.
fn joined(text: &str) -> Option<(String, Vec<(usize, usize)>)> {
    let bytes = text.as_bytes();
    // Most texts have none: two marks alike with a letter between them, and a third.
    let spaced = |w: &[u8]| matches!(w, [a, m, _, n, b, o] if m == n && n == o && is_mark(*m) && a.is_ascii_alphabetic() && b.is_ascii_alphabetic());
    if !bytes.windows(6).any(spaced) {
        return None;
    }
    let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    let mark = |at: usize| bytes.get(at).copied().filter(|b| is_mark(*b));
    let mut out = String::new();
    let mut places: Vec<(usize, usize)> = Vec::new();
    let (mut from, mut at) = (0usize, 0usize);
    while at < bytes.len() {
        let Some(between) = mark(at.saturating_add(1)).filter(|_| letter(at)) else {
            at = at.saturating_add(1);
            continue;
        };
        let fresh = at.checked_sub(1).is_none_or(|before| !bytes.get(before).is_some_and(u8::is_ascii_alphanumeric));
        let mut end = at;
        let mut letters = 1usize;
        while fresh && mark(end.saturating_add(1)) == Some(between) && letter(end.saturating_add(2)) {
            end = end.saturating_add(2);
            letters = letters.saturating_add(1);
        }
        let whole = !bytes.get(end.saturating_add(1)).is_some_and(u8::is_ascii_alphanumeric);
        if letters < SPACED_LETTERS || !whole {
            at = end.saturating_add(1);
            continue;
        }
        places.push((out.len(), from));
        out.push_str(text.get(from..at).unwrap_or_default());
        for n in (at..=end).step_by(2) {
            places.push((out.len(), n));
            out.push_str(text.get(n..n.saturating_add(1)).unwrap_or_default());
        }
        from = end.saturating_add(1);
        at = from;
    }
    if places.is_empty() {
        return None;
    }
    places.push((out.len(), from));
    out.push_str(text.get(from..).unwrap_or_default());
    Some((out, places))
}

/// The patterns, each tried only where one of its beginnings stands.
struct Orders {
    beginnings: AhoCorasick,
    /// Beginnings up to here are of Latin words, which begin where no letter or digit is before.
    latin: usize,
    words: Regex,
    scripts: Regex,
}

impl Orders {
    fn found(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut from = 0usize;
        for hit in self.beginnings.find_overlapping_iter(text) {
            let start = hit.start();
            if start < from {
                continue;
            }
            let is_latin = hit.pattern().as_usize() < self.latin;
            let before = start.checked_sub(1).and_then(|at| text.as_bytes().get(at));
            if is_latin && before.is_some_and(u8::is_ascii_alphanumeric) {
                continue;
            }
            let Some(rest) = text.get(start..) else { continue };
            let pattern = if is_latin { &self.words } else { &self.scripts };
            if let Some(m) = pattern.find(rest) {
                from = start.saturating_add(m.end());
                found.push((start, from));
            }
        }
        found
    }
}

/// The shortest beginnings that tell the matches of a pattern.
fn beginnings(pattern: &str) -> Option<Vec<Vec<u8>>> {
    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(4_000).limit_class(64).limit_repeat(4);
    let mut seq = extractor.extract(&hir);
    seq.keep_first_bytes(6);
    seq.dedup();
    let mut out: Vec<Vec<u8>> = seq.literals()?.iter().map(|l| l.as_bytes().to_vec()).collect();
    out.sort();
    // Of two of which one begins the other, the shorter stands for both.
    out.dedup_by(|longer, shorter| longer.starts_with(shorter));
    (!out.iter().any(Vec::is_empty)).then_some(out)
}

/// Between two words: at least one space, with marks of Markdown around it.
const GAP: &str = r#"(?:[*_~"'`,()>#|-]{0,4}[\x20\t\n][\x20\t\n*_~"'`,(>#|-]*)"#;

const CALL_OFF: &str = "ignore|disregard|forget|override|bypass|neglect|overlook\
    |(?:do not|don'?t|never|stop|no longer|must not|should not) (?:follow|following|obey|obeying|heed|heeding|listen to)\
    |pay no (?:attention|heed) to\
    |ignorier(?:e|en|t)(?: sie)?|vergiss|vergesst|vergessen sie|missachten?(?: sie)?\
    |ignorez|ignores|oubliez?|oublies|ne (?:tiens|tenez) pas compte|fai(?:s|tes) abstraction\
    |ignora|ignorar|ignoren|olvida|olvide|olvidar|olviden|haz caso omiso\
    |ignorate|ignorare|dimentica|dimenticate|ignorem|esqueca|esquece|esquecam|desconsidere|desconsidera\
    |negeer|negeren|vergeet|zignoruj|ignoruj|zapomnij|ignorera|glom|ignorer|glem";

const BETWEEN: &str = "all|any|every|each|everything|of|the|these|those|this|that|your|my|our|its|other|such|and|or|\
    above|following|given|system|original|initial|current|previously|so|far\
    |alle|aller|allen|die|der|das|den|dem|deine|deinen|ihre|ihren|meine\
    |toutes?|tous|les?|la|tes|vos|mes|des|de|du|las|los|todas?|todos|tus?|sus?|mis|que|te|han\
    |tutte|tutti|gli|tue|tuoi|as|os|suas|seus|van|jouw|je|wszystkie|wszystkich|swoje|alla|dina|dine";

const EARLIER: &str = "previous|prior|above|earlier|preceding|former|foregoing|past\
    |vorherigen?|vorigen?|vorangegangenen?|obigen?|bisherigen?|fruheren?|obenstehenden?\
    |precedente?s?|anterieure?s?|ci-dessus|anteriores?|previ[ao]s?|precedenti|sopra|acima\
    |vorige|eerdere|voorgaande|bovenstaande|poprzednie|poprzednich|wczesniejsze|powyzsze\
    |tidigare|foregaende|ovanstaende|tidligere|forrige";

const INSTRUCTIONS: &str = "instructions?|prompts?|directives?|guidelines?\
    |anweisung(?:en)?|instruktion(?:en)?|vorgaben?|consignes?\
    |instruccion(?:es)?|indicacion(?:es)?|istruzion[ei]|indicazioni|instruc(?:ao|oes)|orientacoes\
    |instructies?|aanwijzingen|instrukcj[ei]|instrukcje|polecenia|polecen|instruktioner(?:na|ne)?|instrukser";

/// Words that name other things as often, and so need `all` or `your` beside them.
const RULES: &str = "rules?|orders?|commands?|directions?|constraints?";

const HIDDEN: &str = "(?:system|initial|hidden|secret|original|internal|developer)";

const NEW: &str = "new|neuen?|nouvelles?|nuevas?|nuov[ae]|novas?|nieuwe|nowe|nya|nye";

/// Scripts that are written without spaces, and word orders of their own. Blanks stand for any gap.
const OTHER_SCRIPTS: &[&str] = &[
    "(?:игнорируй(?:те)?|забудь(?:те)?|ігноруй(?:те)?) (?:(?:все|всех|всё|эти|твои|ваши|мои|свои|усі|всі) ){0,3}\
     (?:предыдущ|прежн|предшествующ|вышеуказанн|попередн)[а-яі]{1,3} (?:твои |ваши )?\
     (?:инструкци|указани|команд|правил|інструкці|вказівк)[а-яі]{1,2}",
    "(?:новые|нові) (?:инструкции|указания|інструкції|вказівки) ?:",
    "(?:忽略|忽視|忽视|无视|無視|忘记|忘記|不要理会|不要遵循|不要遵守)(?:掉)?\
     (?:所有|全部|一切|任何|你|您|的|我|之前|以前|先前|上述|上面|前面|以上|此前|过去|系统|給|给|出){1,8}\
     (?:指令|指示|提示词|提示|命令|说明|說明|规则|規則|要求)",
    "(?:以前|これまで|今まで|上記|前|先|以上)の(?:すべての|全ての|全|あらゆる)?(?:指示|命令|プロンプト|指令)(?:を|は)?(?:すべて|全て|全部)?\
     (?:無視|忘れ)",
    "(?:이전|앞선|위|기존)(?:의)? ?(?:모든 )?(?:지시|명령|지침|프롬프트)(?:사항|들)?(?:을|를|은|는)? ?(?:모두|전부|다)? ?(?:무시|잊)",
    "تجاهل (?:(?:جميع|كل) )?(?:التعليمات|الأوامر|الإرشادات) (?:السابقة|أعلاه)",
    "(?:पिछले|पिछली|पहले के) (?:सभी )?(?:निर्देशों|निर्देश|आदेशों) (?:को )?(?:अनदेखा|नज़रअंदाज़|भूल)",
    "(?:onceki|yukaridaki) (?:tum |butun )?(?:talimatlari|komutlari) (?:yok say|unut|gormezden gel|dikkate alma)",
    "新的?(?:指令|指示|说明) ?:",
];

static ORDERS: LazyLock<Option<Orders>> = LazyLock::new(|| {
    let between = format!("(?:(?:{BETWEEN}|{EARLIER}) )");
    let latin = [
        format!("(?:{CALL_OFF}) {between}{{0,5}}(?:{EARLIER}) {between}{{0,3}}(?:{INSTRUCTIONS})"),
        format!(
            "(?:{CALL_OFF}) {between}{{0,5}}(?:your|all) {between}{{0,3}}(?:{EARLIER}) {between}{{0,3}}(?:{RULES})"
        ),
        format!("(?:{CALL_OFF}) {between}{{0,5}}your {between}{{0,3}}(?:{INSTRUCTIONS}|{RULES})"),
        format!("(?:{CALL_OFF}) {between}{{0,5}}(?:{INSTRUCTIONS}) {between}{{0,4}}(?:{EARLIER})"),
        "(?:ignore|disregard|forget) (?:everything|anything|all) (?:above|before|(?:that )?you were told)".to_owned(),
        "disregard (?:(?:everything|of|the) )?(?:above|previous|all)".to_owned(),
        // What only somebody says who wants another's orders gone.
        format!("(?:reveal|print|show|output|repeat|display|leak|disclose|reproduce|return|tell) (?:me )?(?:all )?(?:of )?your (?:own |full |entire |complete |exact )?{HIDDEN} (?:{INSTRUCTIONS}|messages?)"),
        "from now on,? you (?:are|will|must|shall|should) (?:no longer|now|only|always|act|be|behave|respond|answer|obey|ignore)".to_owned(),
        "you are (?:now )?(?:no longer (?:bound|restricted|limited|an? (?:ai|assistant|language model))|(?:dan|jailbroken|unrestricted|unfiltered|free from))".to_owned(),
        "you (?:are now|have entered|will now enter) (?:in )?(?:developer|god|debug|admin|root|dan|maintenance) mode".to_owned(),
        "(?:do|can) anything now".to_owned(),
        "(?:end|beginning|start) of (?:the )?(?:system|trusted) (?:prompt|instructions|message|input)".to_owned(),
    ];
    let words = [
        format!(r"(?:{})(?:(?-u:\b)|_)", latin.join("|")),
        // These end in a mark.
        format!("(?:{NEW}) (?:{}) ?:", INSTRUCTIONS.replace("|prompts?", "")),
        "stop everything(?: you are doing)?[!,.;:]".to_owned(),
    ];
    let finish = |pattern: &str| fold(pattern).replace(" ?", &format!("{GAP}?")).replace(' ', GAP);
    let (words, scripts) = (finish(&words.join("|")), finish(&OTHER_SCRIPTS.join("|")));
    let (latin, other) = (beginnings(&words)?, beginnings(&scripts)?);
    let beginnings =
        AhoCorasickBuilder::new().kind(Some(AhoCorasickKind::DFA)).build(latin.iter().chain(&other)).ok()?;
    let anchored = |pattern: &str| Regex::new(&format!(r"\A(?:{pattern})")).ok();
    Some(Orders { beginnings, latin: latin.len(), words: anchored(&words)?, scripts: anchored(&scripts)? })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_compile() {
        assert!(ORDERS.is_some());
    }
}
