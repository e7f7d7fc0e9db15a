use super::*;
use proptest::prelude::*;

type Pairs = &'static [(&'static str, &'static str, usize)];

/// What a text says: key, value and line. Up to `Java alone` the crate java-properties 2.0, which read these files once,
/// said the same of each, and of 400,000 generated texts.
const SAID: &[(&str, Pairs)] = &[
    ("", &[]),
    (" \t\x0c\r\n\n", &[]),
    ("a=b", &[("a", "b", 1)]),
    ("a=b\nc=d\r\ne=f\rg=h\n", &[("a", "b", 1), ("c", "d", 2), ("e", "f", 3), ("g", "h", 4)]),
    ("# a=b\n ! c=d\n\t#\ne=f # no comment\n", &[("e", "f # no comment", 4)]),
    ("a = b", &[("a", "b", 1)]),
    ("a : b", &[("a", "b", 1)]),
    ("a b c ", &[("a", "b c ", 1)]),
    ("a\tb", &[("a", "b", 1)]),
    ("a\x0c=\x0cb\x0c", &[("a", "b\x0c", 1)]),
    ("a:=b", &[("a", "=b", 1)]),
    ("a = = b", &[("a", "= b", 1)]),
    ("  a=b", &[("a", "b", 1)]),
    ("a", &[("a", "", 1)]),
    ("a=", &[("a", "", 1)]),
    ("a \n", &[("a", "", 1)]),
    ("=b", &[("", "b", 1)]),
    (":", &[("", "", 1)]),
    ("a=1\na=2", &[("a", "1", 1), ("a", "2", 2)]),
    // Lines that go on.
    ("a=b\\\nc", &[("a", "bc", 1)]),
    ("a=b\\\r\n \t\x0c c\\\rd\ne=f", &[("a", "bcd", 1), ("e", "f", 4)]),
    ("a\\\n  =b", &[("a", "b", 1)]),
    ("a=b\\\\\nc=d", &[("a", "b\\", 1), ("c", "d", 2)]),
    ("a=b\\\\\\\nc=d", &[("a", "b\\c=d", 1)]),
    ("a=\\\n\nb=c", &[("a", "", 1), ("b", "c", 3)]),
    ("a=b\\\n#c\nd=e", &[("a", "b#c", 1), ("d", "e", 3)]),
    ("#a\\\nb=c", &[("b", "c", 2)]),
    ("\\\n\na=b", &[("a", "b", 3)]),
    // Escapes.
    (r"a=\t\n\r\f\\\=\:\#\!\ \b\z", &[("a", "\t\n\r\x0c\\=:#! bz", 1)]),
    (r"a\ b\=c\:d=e", &[("a b=c:d", "e", 1)]),
    (r"\#a=b", &[("#a", "b", 1)]),
    (r"a=\u0041\u00e9\u00FC", &[("a", "Aéü", 1)]),
    (r"\u0061=b\u000ac", &[("a", "b\nc", 1)]),
    (r"a=\u00410", &[("a", "A0", 1)]),
    ("ä=ü\u{2028}", &[("ä", "ü\u{2028}", 1)]),
    ("\u{feff}a=b", &[("a", "b", 1)]),
    // Java alone. The crate lost the last line, took a comment for a value, or a line that goes on for a comment, cut what is no
    // blank to Java, and knew no characters of two halves.
    ("a=b\\", &[("a", "b", 1)]),
    ("# C:\\users\na=b", &[("a", "b", 2)]),
    ("\\\n#a=b", &[("#a", "b", 1)]),
    ("a=b\\\n\u{a0}c", &[("a", "b\u{a0}c", 1)]),
    (r"a=\ud83e\udd80", &[("a", "🦀", 1)]),
];

/// Texts with an error, and its line: where what it stands in begins.
const REFUSED: &[(&str, usize)] = &[
    (r"a=\u12", 1),
    ("a=b\nc=d\\\n\\u12g4\n", 2),
    ("\\u00=b", 1),
    ("a=\\u12\u{fc}", 1),
    // Java alone: the crate took the plus for a sign, and a half of a character for no error of Java's.
    ("\n\na=\\u+123", 3),
    (r"a=\ud83e", 1),
    (r"a=\udd80\ud83e", 1),
];

#[test]
fn texts_say_what_they_say_to_java() {
    for (text, pairs) in SAID {
        let read =
            read(&decode(text.as_bytes())).unwrap_or_else(|e| panic!("{text:?}: line {}: {e}", e.line));
        let read: Vec<_> = read.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.line)).collect();
        assert_eq!(&read, pairs, "{text:?}");
    }
}

#[test]
fn what_java_refuses_is_refused_with_its_line() {
    for (text, line) in REFUSED {
        let error = read(text).expect_err(text);
        assert_eq!(error.line, *line, "{text:?}: {error}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_latin_1() {
    assert_eq!(decode(b"a=\xfc"), "a=ü");
    assert_eq!(decode("a=ü".as_bytes()), "a=ü");
}

const ODD: &str = "[ab=:#! \\\\\t\n\r\x0cu0ü🦀]{0,8}";

proptest! {
    #[test]
    fn what_is_written_is_read_again(pairs in proptest::collection::vec((ODD, ODD), 0..5)) {
        let text: String = pairs.iter().map(|(key, value)| line_of(key, value)).collect();
        let read = read(&text).unwrap();
        let read: Vec<_> = read.into_iter().map(|property| (property.key, property.value)).collect();
        prop_assert_eq!(read, pairs);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::sample::select(b"=: \\u0d8\n\r#\xff\xc3\xbc".to_vec()), 0..60)) {
        let _ = read(&decode(&bytes));
    }
}
