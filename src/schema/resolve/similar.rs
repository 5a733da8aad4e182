//! "Did you mean": the nearest name there is.

/// The candidate nearest to `word`, if one is near enough to have been meant. Ties go to the
/// first.
pub(in crate::schema) fn similar<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    // One slip in a short word, one in three letters of a longer one.
    let limit = (word.len() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let limit = best.map_or(limit, |(distance, _)| distance.saturating_sub(1));
        if let Some(distance) = distance_within(&word, candidate, limit)
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
        if best.is_some_and(|(distance, _)| distance == 0) {
            break;
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many letters must be added, left out, replaced or swapped with their neighbour; `None`
/// if more than `limit`.
fn distance_within(word: &[char], candidate: &str, limit: usize) -> Option<usize> {
    let candidate: Vec<char> = candidate.chars().collect();
    if candidate.len().abs_diff(word.len()) > limit || word.is_empty() || candidate.is_empty() {
        return None;
    }
    // A word replaced letter for letter is another word.
    let limit = limit.min(word.len().max(candidate.len()) - 1);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    for (row, a) in word.iter().enumerate() {
        let mut this = Vec::with_capacity(candidate.len() + 1);
        this.push(row + 1);
        for (column, b) in candidate.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&last, column + 1) + 1)
                .min(at(&this, column) + 1)
                .min(at(&last, column) + usize::from(a != b));
            let swapped =
                row > 0 && column > 0 && word.get(row - 1) == Some(b) && candidate.get(column - 1) == Some(a);
            if swapped {
                cost = cost.min(at(&before, column - 1) + 1);
            }
            this.push(cost);
        }
        if this.iter().min().is_none_or(|least| *least > limit) {
            return None;
        }
        before = std::mem::replace(&mut last, this);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}
