//! Enums whose variants are the words of a log field, a metric label, a header or a configuration value.

/// Defines a fieldless enum with one word for each variant.
///
/// The enum gets `ALL` (the variants in order of declaration), `as_str()`, `index()` (the position in `ALL`, for arrays
/// of counters that are looked up once) and `Display`.
#[macro_export]
macro_rules! label_enum {
    ($(#[$enum_doc:meta])* $visibility:vis enum $Enum:ident { $($(#[$doc:meta])* $Variant:ident = $word:literal,)+ }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $Enum { $($(#[$doc])* $Variant,)+ }

        impl $Enum {
            /// Every variant, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$Variant,)+];

            /// The word for logs, metrics, headers and the configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }

            /// The position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
