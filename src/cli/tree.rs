//! Trees drawn with `├──` and `└──`.
//!
//! Whoever wrote the tuples decides how deep a tree is, so nothing here recurses, and a very
//! deep branch stops moving to the right.

/// Levels drawn; nodes below say how deep they are instead.
const MAX_DRAWN_LEVELS: usize = 32;

/// A tree of lines. Parents come before their children; the first node is the root.
#[derive(Debug, Default)]
pub struct Tree {
    labels: Vec<String>,
    children: Vec<Vec<usize>>,
}

impl Tree {
    /// Adds a node under `parent`, or the root if there is none yet, and returns its number.
    pub fn add(&mut self, parent: Option<usize>, label: impl Into<String>) -> usize {
        let number = self.labels.len();
        self.labels.push(label.into());
        self.children.push(Vec::new());
        if let Some(children) = parent.and_then(|parent| self.children.get_mut(parent)) {
            children.push(number);
        }
        number
    }

    /// The lines of the tree, the root first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.labels.len());
        // Per node: how it is led up to, whether it is the last of its parent, and its level.
        let mut open = vec![(0_usize, String::new(), true, 0_usize)];
        while let Some((number, lead, last, level)) = open.pop() {
            let (Some(label), Some(children)) = (self.labels.get(number), self.children.get(number)) else {
                continue;
            };
            let (branch, below) = match level {
                0 => (String::new(), String::new()),
                1..=MAX_DRAWN_LEVELS => (
                    format!("{lead}{}", if last { "└── " } else { "├── " }),
                    format!("{lead}{}", if last { "    " } else { "│   " }),
                ),
                _ => (format!("{lead}⋯ level {level}: "), lead),
            };
            let mut parts = label.lines();
            lines.push(format!("{branch}{}", parts.next().unwrap_or_default()));
            lines.extend(parts.map(|part| format!("{below}{part}")));
            for (position, child) in children.iter().enumerate().rev() {
                open.push((*child, below.clone(), position + 1 == children.len(), level + 1));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_line_up() {
        let mut tree = Tree::default();
        let root = tree.add(None, "root");
        let first = tree.add(Some(root), "first");
        tree.add(Some(root), "second\nin two lines");
        tree.add(Some(first), "inner");
        tree.add(Some(first), "last inner");
        assert_eq!(
            tree.lines().join("\n"),
            "root\n├── first\n│   ├── inner\n│   └── last inner\n└── second\n    in two lines"
        );
    }

    #[test]
    fn a_very_deep_tree_neither_recurses_nor_runs_to_the_right() {
        let mut tree = Tree::default();
        let mut node = tree.add(None, "0");
        for depth in 1..100_000 {
            node = tree.add(Some(node), depth.to_string());
        }
        let lines = tree.lines();
        assert_eq!(lines.len(), 100_000);
        assert!(lines.iter().all(|line| line.chars().count() < 200));
        assert!(lines.last().is_some_and(|line| line.ends_with("⋯ level 99999: 99999")));
    }

    #[test]
    fn an_empty_tree_has_no_lines() {
        assert!(Tree::default().lines().is_empty());
    }
}
