//! The known name that a mistyped one was probably meant to be.

/// Longer names are never typos of ours.
const LONGEST: usize = 64;
/// Of more candidates only so many are compared.
const MOST: usize = 500;

/// The candidate nearest to `name`, if it is near enough to be a typo.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let wanted = fold(name);
    let (distance, best) = candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(&wanted, &fold(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let longest = wanted.len().max(best.chars().count());
    (distance <= longest / 3 || (distance == 1 && longest > 1)).then_some(best)
}

/// `Read-Only`, `readOnly` and `read_only` are the same slip.
fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typo_finds_its_word_and_a_different_word_finds_none() {
        let known = ["image", "init", "ports", "read_only"];
        assert_eq!(nearest("imgae", known), Some("image"));
        assert_eq!(nearest("port", known), Some("ports"));
        assert_eq!(nearest("readOnly", known), Some("read_only"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("", known), None);
    }
}
