//! Names like a mistyped one, for error messages.

/// At most `count` of these names, the most alike first. Equally alike ones keep their order.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().take(MAX_CHARS).collect();
    // A name that holds the whole word is meant more likely than a short one of other letters.
    let rank = |name: &str| {
        let word: String = wanted.iter().collect();
        let holds = !word.is_empty() && name.to_lowercase().contains(&word);
        (!holds && distance(&wanted, name) > wanted.len().div_ceil(2), distance(&wanted, name))
    };
    let mut ranked: Vec<_> = names.into_iter().map(|name| (rank(name), name)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(count).map(|(_, name)| name).collect()
}

/// Longer names are compared by their beginnings.
const MAX_CHARS: usize = 200;

/// How many characters to put in, take out or replace, upper and lower case being one (Levenshtein).
fn distance(wanted: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, c) in name.to_lowercase().chars().take(MAX_CHARS).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, w) in wanted.iter().enumerate() {
            let replaced = diagonal + usize::from(*w != c);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_comes_first() {
        let names = ["develop", "feature/login", "main", "release/1.0", "release/1.1"];
        assert_eq!(nearest("mian", names, 1), ["main"]);
        assert_eq!(nearest("Release/1.1", names, 2), ["release/1.1", "release/1.0"]);
        assert_eq!(nearest("dev", ["ops", "develop"], 2), ["develop", "ops"]);
        assert_eq!(nearest("", ["bb", "a"], 9), ["a", "bb"]);
        assert_eq!(nearest("x", [], 3), Vec::<&str>::new());
    }

    #[test]
    fn distances_are_edits() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("abc", ""), of("é", "e")), (3, 3, 3, 1));
    }
}
