//! Callouts whose path is spelled in a way that only some layer behind the gateway understands.

use super::{CALLOUT, Corpus};

impl Corpus {
    pub(super) fn paths(&mut self) {
        for word in ["resource", "voicecall", "101", "previewCallout"] {
            for position in 0..word.len() {
                for disguise in DISGUISES {
                    self.hostile_path("path: encoded characters", &disguised(CALLOUT, word, position, &disguise));
                }
            }
        }
        for end in ENDS {
            self.hostile_path("path: endings", &format!("{CALLOUT}{end}"));
        }
        for separator in SEPARATORS {
            for (before, after) in [("resource", "voicecall"), ("voicecall", "101"), ("101", "previewCallout")] {
                let target = CALLOUT.replace(&format!("{before}/{after}"), &format!("{before}{separator}{after}"));
                self.hostile_path("path: separators", &target);
            }
            self.hostile_path("path: separators", &CALLOUT.replace('/', separator));
        }
        for beginning in BEGINNINGS {
            self.hostile_path("path: beginnings", &format!("{beginning}/resource/voicecall/101/previewCallout"));
        }
        for agent in AGENTS {
            self.hostile_path("path: agent ID", &CALLOUT.replace("101", agent));
        }
        for _ in 0..40 {
            let target = self.odd_case();
            self.hostile_path("path: letter case", &target);
        }
    }

    /// Formats and languages, which JAX-RS routers take off the end of a path.
    pub(super) fn suffixes(&mut self) {
        for suffix in
            [".en", ".json.en", ".en.json", ".xml;a=b", ";a=b.json", ".json/", "/.json", ".en%20", "%2Een", ".JSON.EN"]
        {
            self.hostile_path("path: endings", &format!("{CALLOUT}{suffix}"));
            self.hostile_path("path: agent ID", &CALLOUT.replace("101", &format!("101{suffix}")));
        }
    }

    pub(super) fn odd_case(&mut self) -> String {
        let mut flip =
            |c: char| if self.random.below(2) == 0 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        let (prefix, rest) = CALLOUT.split_at("/agentgateway/".len());
        prefix.to_owned() + &rest.chars().map(&mut flip).collect::<String>()
    }
}

#[derive(Clone, Copy)]
pub(super) enum Disguise {
    Percent,
    Double,
    Triple,
    Overlong2,
    Overlong3,
    Unicode,
    FullWidth,
    Parameter,
}

pub(super) const DISGUISES: [Disguise; 8] = [
    Disguise::Percent,
    Disguise::Double,
    Disguise::Triple,
    Disguise::Overlong2,
    Disguise::Overlong3,
    Disguise::Unicode,
    Disguise::FullWidth,
    Disguise::Parameter,
];

/// `path` with the character at `position` of `word` in disguise.
pub(super) fn disguised(path: &str, word: &str, position: usize, disguise: &Disguise) -> String {
    let at = path.find(word).unwrap() + position;
    let code = u32::from(path.as_bytes()[at]);
    let spelled = match disguise {
        Disguise::Percent => format!("%{code:02x}"),
        Disguise::Double => format!("%25{code:02X}"),
        Disguise::Triple => format!("%2525{code:02x}"),
        Disguise::Overlong2 => format!("%{:02X}%{:02X}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
        Disguise::Overlong3 => format!("%e0%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
        Disguise::Unicode => format!("%u{code:04x}"),
        Disguise::FullWidth => {
            let wide = char::from_u32(code + 0xfee0).unwrap();
            wide.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
        }
        Disguise::Parameter => format!("{};a=b", char::from_u32(code).unwrap()),
    };
    format!("{}{spelled}{}", &path[..at], &path[at + 1..])
}

pub(super) const ENDS: &[&str] = &[
    "/",
    "//",
    "/.",
    "/./",
    "/..",
    "/x/..",
    "/x/../",
    "%2f",
    "%2F",
    "%252f",
    ";",
    ";a=b",
    ";a=b/",
    "/;x",
    ";/",
    ".json",
    ".xml",
    ".JSON",
    "%2ejson",
    ".json;a",
    "%00",
    "%00.json",
    "%20",
    "%09",
    "%0a",
    "%0d%0a",
    "%0d",
    "?",
    "?x",
    "??",
    "%3f",
    "%3Fx=y",
    "%23",
    "#",
    "#x",
    "%3b",
    "%3bjsessionid=1",
    ";jsessionid=1",
    ".",
    "..",
    "%2e",
    "\\",
    "%5c",
    "~",
    "'",
    "\"",
    "*",
    "&",
    "%ef%bb%bf",
    "%e2%80%8b",
    "%c2%a0",
    "%c2%ad",
    "+",
    ":",
    "@",
    "!",
    ",",
    "%26x",
    " ",
    "\t",
    "%",
    "%%",
    "%2",
    "%zz",
    "/%2e",
    "/%2e%2e/previewCallout",
    "/../previewCallout",
    "()",
    "[]",
    "{}",
    "|",
    "^",
    "`",
    "$",
    "=",
    "-",
    "_",
    "%c0%af",
    "%e3%80%80",
    "%1f",
    "%7f",
    "\u{1}",
    "\u{7f}",
    "\u{e9}",
];

pub(super) const SEPARATORS: &[&str] = &[
    "//",
    "///",
    "/./",
    "/x/../",
    "/x/y/../../",
    ";a=b/",
    ";/",
    "/;/",
    "/;a=b/",
    "%2f",
    "%2F",
    "%252f",
    "%25252F",
    "\\",
    "%5c",
    "%255C",
    "/%2e/",
    "/%2e%2e/resource/",
    "/..;/resource/",
    "/.;/",
    "/.;a=b/",
    "/%20/",
    "/\t/",
    "%c0%af",
    "/%00/",
    "%e2%88%95",
    "%ef%bc%8f",
    ";",
    "/x/%2e%2e/",
    "/x%2f../",
    "/%3b/",
    "?/",
    "#/",
    "/*/",
    "/~/",
    "%EF%B9%A8",
    "%EF%BC%BC",
    "%E2%81%84",
    "/%E2%80%A5/",
    "/x/%EF%BC%8E%EF%BC%8E/",
    "%u2215",
    "%uFF0F",
];

const BEGINNINGS: &[&str] = &[
    "//agentgateway",
    "/./agentgateway",
    "/x/../agentgateway",
    "/AGENTGATEWAY",
    "/agentgateway/",
    "/agentgateway;x",
    "/agentgateway;x=y",
    "/%61gentgateway",
    "/agentgateway/.",
    "/agentgateway/x/..",
    "/agentgateway/x/..;",
    "/agentgateway/../agentgateway",
    "/agentgateway/..;/agentgateway",
    "/agentgateway/%2e%2e/agentgateway",
    "agentgateway",
    "\\agentgateway",
    "/agentgateway\\",
    "http://cc.example/agentgateway",
    "HTTP://cc.example/agentgateway",
    "https://other/agentgateway",
    "http://u:p@cc.example/agentgateway",
    "http:///agentgateway",
    "http:/agentgateway",
    "http://cc.example//agentgateway",
    "ftp://cc.example/agentgateway",
    "//cc.example/agentgateway",
    "*",
    "/",
    "/agentgateway/resource/..",
    "/agentgateway/resource",
    "/agentgateway/rest",
    "/agentgateway/resource/v1",
    "/agentgateway/resource;a=b/..",
    "http://cc.example:8043/agentgateway/.",
    "/agentgateway%2f",
    "/agentgateway%20",
    "http://cc.example\\agentgateway",
    "http://cc.example#/agentgateway",
    "http://cc.example?/agentgateway",
];

const AGENTS: &[&str] = &[
    "0101",
    "00000101",
    "+101",
    "%2B101",
    "-101",
    "101%20",
    "%20101",
    "101.0",
    "101;x",
    "101;x=y",
    "0x65",
    "%31%30%31",
    "1%30%31",
    "%EF%BC%91%EF%BC%90%EF%BC%91",
    "101%00",
    "101,102",
    "1e2",
    "101L",
    "%D9%A1%D9%A0%D9%A1",
    "101/102",
    "102/../101",
    "101%2f",
    "%2531%30%31",
    "101/.",
    "",
    "{101}",
    "101-",
    "101%0a",
    "101%0d",
    "101%E2%80%8B",
];
