//! Closed lists of words: one enum, its spelling in logs, metrics and headers, and nothing else can be said.

/// Defines a fieldless enum whose variants each have one word.
///
/// The enum gets `ALL` (declaration order), `as_str()`, `index()` (position in `ALL`, for arrays of pre-resolved
/// counters) and `Display`.
#[macro_export]
macro_rules! closed_list {
    ($(#[$list_doc:meta])* $visibility:vis enum $List:ident { $($(#[$doc:meta])* $Variant:ident = $word:literal,)+ }) => {
        $(#[$list_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $List { $($(#[$doc])* $Variant,)+ }

        impl $List {
            /// Every word of the list, in order.
            pub const ALL: &'static [Self] = &[$(Self::$Variant,)+];

            /// The word, as it stands in logs, metrics and headers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }

            /// The position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $List {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
