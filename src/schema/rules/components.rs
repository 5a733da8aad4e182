//! Strongly connected components of a directed graph, without recursion.

/// The components of a graph over `0..n`, in an order in which whatever a component leads to
/// comes before it.
#[derive(Debug)]
pub(crate) struct Components {
    /// Nodes, component after component.
    nodes: Vec<u32>,
    /// Where each component starts in `nodes`, and one more for the end.
    starts: Vec<usize>,
    /// The component of each node.
    component: Vec<u32>,
}

const UNSEEN: u32 = u32::MAX;

#[expect(clippy::indexing_slicing, reason = "nodes and targets are below n, which sizes every table")]
impl Components {
    /// Finds them (Tarjan). `targets(node, i)` is the i-th target of a node, `None` past the last.
    pub(crate) fn new(n: usize, targets: impl Fn(u32, usize) -> Option<u32>) -> Self {
        let count = u32::try_from(n).unwrap_or(u32::MAX);
        let mut found = Self { nodes: Vec::with_capacity(n), starts: vec![0], component: vec![UNSEEN; n] };
        let mut index = vec![UNSEEN; n];
        let mut low = vec![0; n];
        let mut next_index = 0;
        let mut open: Vec<u32> = Vec::new();
        let mut path: Vec<(u32, usize)> = Vec::new();
        for root in 0..count {
            if index[root as usize] != UNSEEN {
                continue;
            }
            path.push((root, 0));
            while let Some((node, position)) = path.pop() {
                let at = node as usize;
                if position == 0 {
                    index[at] = next_index;
                    low[at] = next_index;
                    next_index += 1;
                    open.push(node);
                }
                if let Some(target) = targets(node, position) {
                    path.push((node, position + 1));
                    let to = target as usize;
                    if index[to] == UNSEEN {
                        path.push((target, 0));
                    } else if found.component[to] == UNSEEN {
                        low[at] = low[at].min(index[to]);
                    }
                    continue;
                }
                if let Some((parent, _)) = path.last() {
                    let parent = *parent as usize;
                    low[parent] = low[parent].min(low[at]);
                }
                if low[at] == index[at] {
                    found.close(&mut open, node);
                }
            }
        }
        found
    }

    fn close(&mut self, open: &mut Vec<u32>, root: u32) {
        let id = u32::try_from(self.starts.len() - 1).unwrap_or(u32::MAX);
        while let Some(node) = open.pop() {
            self.component[node as usize] = id;
            self.nodes.push(node);
            if node == root {
                break;
            }
        }
        self.starts.push(self.nodes.len());
    }

    /// How many components there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The nodes of a component.
    pub(crate) fn nodes(&self, component: usize) -> &[u32] {
        &self.nodes[self.starts[component]..self.starts[component + 1]]
    }

    /// The component of a node.
    pub(crate) fn of(&self, node: u32) -> u32 {
        self.component[node as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(edges: &[&[u32]]) -> Vec<Vec<u32>> {
        let found = Components::new(edges.len(), |node, i| edges[node as usize].get(i).copied());
        (0..found.len())
            .map(|component| {
                let mut nodes = found.nodes(component).to_vec();
                assert!(nodes.iter().all(|node| found.of(*node) as usize == component));
                nodes.sort_unstable();
                nodes
            })
            .collect()
    }

    #[test]
    fn targets_come_first() {
        assert_eq!(components(&[&[1], &[2], &[]]), [[2], [1], [0]]);
        assert_eq!(components(&[&[1, 3], &[2], &[1], &[]]), [vec![1, 2], vec![3], vec![0]]);
        assert_eq!(components(&[&[0], &[0, 2], &[1]]), [vec![0], vec![1, 2]]);
    }

    #[test]
    fn depth_is_on_the_heap() {
        let n = 200_000;
        let found = Components::new(n as usize, |node, i| (i == 0).then_some((node + 1) % n));
        assert_eq!(found.len(), 1);
    }
}
