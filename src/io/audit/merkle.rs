//! The Merkle tree of a segment, as in RFC 6962 section 2.1 (and C2SP tlog-tiles): proves that one line belongs to a
//! signed checkpoint without showing any other line.
//!
//! An entry of the tree is the SHA-256 of a line, so a leaf is `SHA-256(0x00 || SHA-256(line))`.

use super::digest::Digest;

/// Bytes of a digest.
const LENGTH: usize = 32;

/// The hash of a leaf.
pub fn leaf(line: Digest) -> Digest {
    let mut bytes = [0; 1 + LENGTH];
    let [_, entry @ ..] = &mut bytes;
    *entry = line.0;
    Digest::of(&bytes)
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut bytes = [1; 1 + 2 * LENGTH];
    let [_, children @ ..] = &mut bytes;
    // Whole halves: an iterator over single bytes took as long as the hash.
    let (to_left, to_right) = children.split_at_mut(LENGTH);
    to_left.copy_from_slice(&left.0);
    to_right.copy_from_slice(&right.0);
    Digest::of(&bytes)
}

/// A tree that grows: only the roots of its complete subtrees are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    size: u64,
    /// The largest subtree first.
    subtrees: Vec<Digest>,
}

impl Tree {
    /// Number of lines.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the digest of the next line.
    pub fn push(&mut self, line: Digest) {
        let mut hash = leaf(line);
        // Each trailing one bit of the size is a complete subtree of the same height to the left.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node(left, hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root. The root of the empty tree is the digest of no bytes.
    pub fn root(&self) -> Digest {
        let mut from_the_right = self.subtrees.iter().rev().copied();
        let Some(last) = from_the_right.next() else { return Digest::of(b"") };
        from_the_right.fold(last, |right, left| node(left, right))
    }
}

/// The sibling hashes on the way from the leaf at `index` to the root, the lowest first; `None` if there is no such leaf.
pub fn path(lines: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= lines.len() {
        return None;
    }
    if lines.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = lines.split_at_checked(largest_power_of_two_below(lines.len()))?;
    let (mut hashes, sibling) = match index.checked_sub(left.len()) {
        None => (path(left, index)?, right),
        Some(index) => (path(right, index)?, left),
    };
    hashes.push(root(sibling));
    Some(hashes)
}

fn root(lines: &[Digest]) -> Digest {
    let mut tree = Tree::default();
    lines.iter().for_each(|line| tree.push(*line));
    tree.root()
}

fn largest_power_of_two_below(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The root of a tree of `size` lines in which `line` is at `index`, by its path (RFC 9162 section 2.1.3.2); `None` if the
/// path has the wrong length.
pub fn root_by_path(line: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = leaf(line);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if position % 2 == 1 || position == last {
            hash = node(*sibling, hash);
            while position.is_multiple_of(2) && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(hash, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<Digest> {
        (0..count).map(|n| Digest::of(&n.to_be_bytes())).collect()
    }

    #[test]
    fn each_line_of_each_tree_has_a_path_to_its_root_and_to_no_other() {
        for size in 1..=70 {
            let lines = lines(size);
            let expected = root(&lines);
            for (index, line) in lines.iter().enumerate() {
                let path = path(&lines, index).unwrap();
                assert_eq!(root_by_path(*line, index as u64, size, &path), Some(expected), "{index} of {size}");
                assert_ne!(root_by_path(Digest::ZERO, index as u64, size, &path), Some(expected));
                let beyond = [&path[..], &[Digest::ZERO]].concat();
                assert_ne!(root_by_path(*line, index as u64, size, &beyond), Some(expected));
            }
            assert_eq!(path(&lines, lines.len()), None);
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        // Recursion of RFC 6962 section 2.1, written out for three leaves.
        let [a, b, c] = lines(3)[..] else { panic!() };
        assert_eq!(root(&[a, b, c]), node(node(leaf(a), leaf(b)), leaf(c)));
        assert_eq!(root(&[]), Digest::of(b""));
    }
}
