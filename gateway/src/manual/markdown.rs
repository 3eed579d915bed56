//! As much of Markdown as docs/gateway.md is written in, and how it looks as roff.

use roff::{Inline, Roff, bold, italic, roman};

/// What stands between two blank lines, or in the row of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    Heading(String),
    Paragraph(String),
    /// With what stands before it.
    Item(String, String),
    Code(Vec<String>),
    /// The first row says what the columns are.
    Table(Vec<Vec<String>>),
}

/// A row of a table of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    pub(super) names: &'a str,
    pub(super) meaning: &'a str,
    pub(super) default: &'a str,
}

pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            blocks.push(Block::Code(code.map(str::to_owned).collect()));
        } else if let Some(line) = line.strip_prefix("    ") {
            let mut code = vec![line.to_owned()];
            // A blank line is the code's if there is more of it behind.
            while let Some(next) = lines.next_if(|it| it.is_empty() || it.starts_with("    ")) {
                code.push(next.get(4..).unwrap_or_default().to_owned());
            }
            while code.last().is_some_and(String::is_empty) {
                code.pop();
            }
            blocks.push(Block::Code(code));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|it| it.starts_with('|')) {
                rows.push(cells(row));
            }
            rows.retain(|row| !row.iter().all(|cell| cell == "---"));
            blocks.push(Block::Table(rows));
        } else if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_start_matches('#').trim();
            blocks.push(Block::Heading(heading.to_owned()));
        } else if !line.is_empty() {
            let (marker, first) = marker(line);
            let mut words = first.to_owned();
            while let Some(next) = lines.next_if(|it| is_continued(it)) {
                words.push(' ');
                words.push_str(next.trim_start());
            }
            blocks.push(match marker {
                Some(marker) => Block::Item(marker.to_owned(), words),
                None => Block::Paragraph(words),
            });
        }
    }
    blocks
}

fn cells(row: &str) -> Vec<String> {
    let cells = row.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().to_owned()).collect()
}

/// `- ` or `1. `, and what stands behind it.
fn marker(line: &str) -> (Option<&str>, &str) {
    match line.split_once(' ') {
        Some(("-", rest)) => (Some("\u{2022}"), rest),
        Some((number, rest))
            if number
                .strip_suffix('.')
                .is_some_and(|it| it.parse::<u8>().is_ok()) =>
        {
            (Some(number), rest)
        }
        _ => (None, line),
    }
}

fn is_continued(line: &str) -> bool {
    let begins = ["```", "    ", "|", "#"];
    !line.is_empty()
        && marker(line).0.is_none()
        && !begins.iter().any(|begin| line.starts_with(begin))
}

impl Block {
    /// The table of the file that it tells the keys of, empty for the file itself, and they.
    pub(super) fn keys(&self) -> Option<(&str, Vec<Key<'_>>)> {
        let Self::Table(rows) = self else { return None };
        let (head, rows) = rows.split_first()?;
        let table = match head.first()?.strip_prefix("key")? {
            "" => "",
            of => of.strip_prefix(" of `[")?.strip_suffix("]`")?,
        };
        let keys = rows.iter().filter_map(|row| {
            let [names, meaning, default] = row.as_slice() else {
                return None;
            };
            Some(Key {
                names,
                meaning,
                default,
            })
        });
        Some((table.trim_matches(['[', ']']), keys.collect()))
    }

    pub(super) fn write(&self, page: &mut Roff) {
        if let Some((table, keys)) = self.keys() {
            page.control("PP", []);
            if table.is_empty() {
                page.text([roman("Keys:")]);
            } else {
                page.text([roman("Keys of "), bold(format!("[{table}]")), roman(":")]);
            }
            for key in keys {
                page.control("TP", []);
                page.text(inlines(key.names));
                page.text(inlines(key.meaning));
                page.control("br", []);
                let mut default = vec![roman("Default: ")];
                default.extend(inlines(key.default));
                page.text(default);
            }
            return;
        }
        match self {
            Self::Heading(text) => {
                page.control("SH", [text.to_uppercase().as_str()]);
            }
            Self::Paragraph(text) => {
                page.control("PP", []);
                page.text(inlines(text));
            }
            Self::Item(marker, text) => {
                page.control("IP", [marker.as_str(), "4"]);
                page.text(inlines(text));
            }
            Self::Code(lines) => {
                page.control("PP", []);
                page.control("RS", ["4"]);
                page.control("nf", []);
                for line in lines {
                    page.text([roman(line)]);
                }
                page.control("fi", []);
                page.control("RE", []);
            }
            Self::Table(rows) => {
                for row in rows.iter().skip(1) {
                    let Some((first, rest)) = row.split_first() else {
                        continue;
                    };
                    page.control("TP", []);
                    page.text(inlines(first));
                    for cell in rest {
                        page.text(inlines(cell));
                    }
                }
            }
        }
    }
}

/// `code` is bold and **strong** italic; of a link the words are left.
pub(super) fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '[', '*']) {
        let (plain, special) = rest.split_at(at);
        let found = between(special, "`", "`")
            .map(|(code, rest)| (vec![bold(code)], rest))
            .or_else(|| {
                between(special, "**", "**").map(|(strong, rest)| (vec![italic(strong)], rest))
            })
            .or_else(|| between(special, "*", "*").map(|(word, rest)| (vec![italic(word)], rest)))
            .or_else(|| {
                let (words, link) = between(special, "[", "](")?;
                let (_, rest) = link.split_once(')')?;
                Some((inlines(words), rest))
            });
        parts.push(roman(plain));
        match found {
            Some((inner, behind)) => {
                parts.extend(inner);
                rest = behind;
            }
            None => {
                let (one, behind) = special.split_at(1);
                parts.push(roman(one));
                rest = behind;
            }
        }
    }
    parts.push(roman(rest));
    parts
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(open)?.split_once(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_s_markdown_is_understood() {
        let text = "## A title\n\nWords\nin two lines.\n\n- one\n  more\n- two\n\n```toml\n[a]\n```\n    b\n\n    c\n\n\
                    | key of `[[rule]]` | meaning | default |\n|---|---|---|\n| `name` | it | none |\n";
        let owned = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let all = blocks(text);
        assert_eq!(
            all[..6],
            [
                Block::Heading("A title".to_owned()),
                Block::Paragraph("Words in two lines.".to_owned()),
                Block::Item("\u{2022}".to_owned(), "one more".to_owned()),
                Block::Item("\u{2022}".to_owned(), "two".to_owned()),
                Block::Code(owned(&["[a]"])),
                Block::Code(owned(&["b", "", "c"])),
            ]
        );
        let key = Key {
            names: "`name`",
            meaning: "it",
            default: "none",
        };
        assert_eq!(all[6].keys(), Some(("rule", vec![key])));
        assert_eq!(all[1].keys(), None);
    }

    #[test]
    fn marks_become_faces() {
        let parts = inlines("see [the `x`](#there), **not** y[0] * 2");
        let said = [
            roman("see "),
            roman("the "),
            bold("x"),
            roman(""),
            roman(", "),
            italic("not"),
            roman(" y"),
            roman("["),
            roman("0] "),
            roman("*"),
            roman(" 2"),
        ];
        assert_eq!(format!("{parts:?}"), format!("{said:?}"));
    }
}
