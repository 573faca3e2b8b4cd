//! Headers that claim a role, and phrases that call off earlier instructions.
//!
//! The phrases are the known ones in the languages most written on forges; a list like this is never complete.

use std::sync::LazyLock;

use regex::Regex;

use super::Edit;
use super::code::Region;
use super::fold::{Folded, fold};

const PREFIX: &str = "[SANITIZED_PREFIX] ";
const INSTRUCTION: &str = "[SANITIZED_INSTRUCTION]";

/// A role at the start of a line, after marks of quotes, lists, headings, tables and emphasis.
static ROLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?m)^(?:[ \t>*+#_~"'`|()\[\]-]|[0-9]+[.)]|\[x\])*?(?P<role>system|assistant|human)(?P<marks>[*_~"'`)\]]*)(?P<space>[ \t]*):"#,
    )
    .ok()
});

/// Marks the roles.
///
/// In a fence a role in lower case is a key (`system: linux`), and stays.
pub(super) fn roles(folded: &Folded<'_>, code: &[Region]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let Some(role) = ROLE.as_ref() else { return edits };
    let mut fences = code.iter().filter(|region| region.fence).peekable();
    for found in role.captures_iter(folded.text()) {
        let (Some(role), Some(space)) = (found.name("role"), found.name("space")) else { continue };
        while fences.peek().is_some_and(|fence| fence.range.end <= role.start()) {
            fences.next();
        }
        let in_fence = fences.peek().is_some_and(|fence| fence.range.start <= role.start());
        if in_fence && folded.original(role.range()) == role.as_str() {
            continue;
        }
        let start = folded.origin(role.range()).start;
        edits.push(Edit { range: start..start, with: PREFIX });
        if !space.is_empty() {
            edits.push(Edit { range: folded.origin(space.range()), with: "" });
        }
    }
    edits
}

/// Takes out the phrases, in code too: no program is written in them.
pub(super) fn orders(folded: &Folded<'_>) -> Vec<Edit> {
    let Some(orders) = ORDERS.as_ref() else { return Vec::new() };
    let found = orders.find_iter(folded.text());
    let mut from = 0usize;
    found
        .map(|found| {
            // Two phrases may end and begin inside one character.
            let range = folded.origin(found.range());
            let range = range.start.max(from)..range.end.max(from);
            from = range.end;
            Edit { range, with: INSTRUCTION }
        })
        .collect()
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

static ORDERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
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
    ];
    let head = format!("(?:{NEW}) (?:{INSTRUCTIONS}) ?:");
    let pattern =
        format!(r"(?:(?-u:\b)|_)(?:(?:{})(?:(?-u:\b)|_)|{head})|{}", latin.join("|"), OTHER_SCRIPTS.join("|"));
    let pattern = fold(&pattern).replace(" ?", &format!("{GAP}?")).replace(' ', GAP);
    Regex::new(&pattern).ok()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_compile() {
        assert!(ROLE.is_some() && ORDERS.is_some());
    }
}
