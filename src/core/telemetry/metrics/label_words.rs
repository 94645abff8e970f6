//! The words of a label, as the cells of a metric take them.

/// The words of a closed list.
macro_rules! words {
    ($List:ty) => {
        &<$List>::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()[..]
    };
}
pub(super) use words;
