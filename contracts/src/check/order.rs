//! Who must be compiled before whom.

/// Nodes 0..`count` so that each comes after what it `needs`, otherwise in order of number. Nodes
/// of a cycle, and what needs them, are left out; each cycle is told once.
pub(crate) fn dependencies_first(
    count: usize,
    needs: impl Fn(usize) -> Vec<usize>,
    mut on_cycle: impl FnMut(&[usize]),
) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
        Cyclic,
    }
    let mut marks = vec![Mark::New; count];
    let mut order = Vec::new();
    for start in 0..count {
        if marks[start] != Mark::New {
            continue;
        }
        // A stack of its own: a chain of contracts may be longer than the thread's stack is deep.
        let mut path: Vec<(usize, Vec<usize>, bool)> = vec![(start, needs(start), false)];
        marks[start] = Mark::Open;
        while let Some((node, open, broken)) = path.last_mut() {
            let node = *node;
            let Some(next) = open.pop() else {
                let broken = *broken;
                marks[node] = if broken { Mark::Cyclic } else { Mark::Done };
                if !broken {
                    order.push(node);
                }
                path.pop();
                if let Some((_, _, parent)) = path.last_mut() {
                    *parent |= broken;
                }
                continue;
            };
            match marks[next] {
                Mark::Done => {}
                Mark::Cyclic => *broken = true,
                Mark::New => {
                    marks[next] = Mark::Open;
                    path.push((next, needs(next), false));
                }
                Mark::Open => {
                    *broken = true;
                    let nodes: Vec<usize> = path.iter().map(|(node, _, _)| *node).collect();
                    let from = nodes.iter().position(|n| *n == next).unwrap_or(0);
                    on_cycle(&nodes[from..]);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(needs: &[&[usize]], order: &[usize], cycles: &[&[usize]]) {
        let mut found = Vec::new();
        let got =
            dependencies_first(needs.len(), |i| needs[i].to_vec(), |c| found.push(c.to_vec()));
        assert_eq!(got, order);
        assert_eq!(found, cycles);
    }

    #[test]
    fn what_is_needed_comes_first() {
        check(&[&[2], &[], &[1]], &[1, 2, 0], &[]);
        check(&[&[], &[0], &[0, 1]], &[0, 1, 2], &[]);
    }

    #[test]
    fn cycles_and_what_hangs_on_them_are_left_out() {
        check(&[&[0]], &[], &[&[0]]);
        check(&[&[1], &[0], &[0], &[]], &[3], &[&[0, 1]]);
    }
}
