//! Walks the parsed TOML key by key, so that every error is found in one reading and each knows
//! its place. (serde stops at the first wrong type and knows no place for a missing key.)

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Complaint, Report, may_hold_secret};
use super::secret::SecretSource;
use super::values;

/// What a text was understood as, or why it was not.
pub(super) type Parsed<T> = Result<T, Complaint>;

/// A value and the bytes it was written in.
pub(super) struct Placed<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// A table that is being read: the keys asked for are the keys known.
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    /// What messages call it: `feed.seas`; empty for the file itself.
    pub path: String,
    /// Its header.
    pub span: Range<usize>,
    known: Vec<&'static str>,
}

/// Reads tables; notes errors and the secrets that will be needed.
pub(super) struct Reader<'a> {
    pub report: Report<'a>,
    pub base: &'a std::path::Path,
    /// The secrets, and where in the file each is named.
    pub needed: Vec<(String, SecretSource, Range<usize>)>,
}

/// What a person calls the type of a value.
fn called(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Table<'a> {
    pub fn new(entries: &'a DeTable<'a>, path: String, span: Range<usize>) -> Self {
        Table { entries, path, span, known: Vec::new() }
    }

    /// What messages call a key of it.
    pub fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.entries.get(key)
    }

    /// Whether a key that belongs here is written.
    pub fn may_have(&mut self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a key is written at all, be its value right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether a key holds a table.
    pub fn is_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// Whether a key is written as a list.
    pub fn is_list(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Whether a key is written as `[]`.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let list = self.entries.get(key).and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// Whether the table under a key has another key.
    pub fn holds(&self, key: &str, inner: &str) -> bool {
        let table = self.entries.get(key).and_then(|value| value.get_ref().as_table());
        table.is_some_and(|table| table.contains_key(inner))
    }

    /// Where a key is written, or the table's header.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Every key, for a table whose keys are names; in the order of the file.
    pub fn names(&self) -> Vec<(Placed<&'a str>, &'a Spanned<DeValue<'a>>)> {
        let mut names: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| (Placed { value: key.get_ref().as_ref(), span: key.span() }, value))
            .collect();
        names.sort_by_key(|(key, _)| key.span.start);
        names
    }
}

impl<'a> Reader<'a> {
    pub fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report.error(span, Complaint::new(message, hint));
    }

    /// Notes every key that was not asked for. The last thing done with a table.
    pub fn finish(&mut self, table: Table<'a>) {
        for (key, value) in table.names() {
            if table.known.contains(&key.value) {
                continue;
            }
            let hint = values::did_you_mean(key.value, &table.known).unwrap_or_else(|| {
                let mut known = table.known.clone();
                known.sort_unstable();
                let place = if table.path.is_empty() {
                    "here".into()
                } else {
                    format!("in `{}`", table.path)
                };
                format!("known {place}: {}", values::list(known))
            });
            // It may be meant for a key that holds a secret.
            if may_hold_secret(&hint) {
                self.hide(value);
            }
            self.error(key.span, format!("unknown key `{}`", key.value), hint);
        }
    }

    fn wrong_type(
        &mut self,
        path: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
        hint: impl Into<String>,
    ) {
        let message = format!("`{path}` must be {wanted}, not {}", called(value.get_ref()));
        self.error(value.span(), message, hint);
    }

    /// A value that is a text.
    pub fn text(&mut self, table: &mut Table<'a>, key: &'static str) -> Option<Placed<&'a str>> {
        let value = table.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            let hint = format!("write it in quotes: {key} = \"…\"");
            self.wrong_type(&table.join(key), "a text", value, hint);
            return None;
        };
        Some(Placed { value: text, span: value.span() })
    }

    /// A text that means something.
    pub fn parsed<T>(
        &mut self,
        table: &mut Table<'a>,
        key: &'static str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<T> {
        let text = self.text(table, key)?;
        self.understood(text, parse)
    }

    /// What a text means, or an error where it is written.
    pub fn understood<T>(
        &mut self,
        text: Placed<&str>,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<T> {
        parse(text.value).map_err(|complaint| self.report.error(text.span, complaint)).ok()
    }

    /// An error at the table's header if a key is not there at all.
    pub fn require(&mut self, table: &Table<'a>, key: &str, example: &str) {
        if !table.has(key) {
            let message = if table.path.is_empty() {
                format!("`{key}` is missing")
            } else {
                format!("`{}` has no `{key}`", table.path)
            };
            self.error(
                table.span.clone(),
                message,
                format!("add a line such as: {key} = {example}"),
            );
        }
    }

    /// A list of texts, each not empty and listed once.
    pub fn texts(
        &mut self,
        table: &mut Table<'a>,
        key: &'static str,
    ) -> Option<Vec<Placed<&'a str>>> {
        let value = table.get(key)?;
        let path = table.join(key);
        let Some(items) = value.get_ref().as_array() else {
            let hint = format!("write it in brackets: {key} = [\"…\"]");
            self.wrong_type(&path, "a list of texts", value, hint);
            return None;
        };
        let mut texts: Vec<Placed<&'a str>> = Vec::new();
        for item in items.iter() {
            let Some(text) = item.get_ref().as_str() else {
                let hint = format!("write each in quotes: {key} = [\"…\", \"…\"]");
                self.wrong_type(&path, "a list of texts", item, hint);
                continue;
            };
            if text.trim().is_empty() {
                self.error(item.span(), format!("an empty text in `{path}`"), "take it out");
            } else if texts.iter().any(|other| other.value == text) {
                self.error(
                    item.span(),
                    format!("{text:?} is listed twice"),
                    "take one of them out",
                );
            } else {
                texts.push(Placed { value: text, span: item.span() });
            }
        }
        Some(texts)
    }

    /// A list of texts that mean something; nothing when the key is not there.
    pub fn parsed_list<T>(
        &mut self,
        table: &mut Table<'a>,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(table, key)?;
        Some(texts.into_iter().filter_map(|text| self.understood(text, &parse)).collect())
    }

    /// `true` or `false`; false when the key is not there.
    pub fn flag(&mut self, table: &mut Table<'a>, key: &'static str) -> bool {
        let Some(value) = table.get(key) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            let hint = format!("write it without quotes: {key} = true");
            self.wrong_type(&table.join(key), "true or false", value, hint);
            false
        })
    }

    /// A whole number, or the same in quotes.
    pub fn digits(&mut self, table: &mut Table<'a>, key: &'static str) -> Option<Placed<&'a str>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => {
                Some(Placed { value: number.as_str(), span: value.span() })
            }
            DeValue::String(text) => Some(Placed { value: text.as_ref(), span: value.span() }),
            _ => {
                let hint = format!("write it as {key} = \"123456789012345678\"");
                self.wrong_type(&table.join(key), "a number", value, hint);
                None
            }
        }
    }

    /// A table under a key.
    pub fn table(&mut self, table: &mut Table<'a>, key: &'static str) -> Option<Table<'a>> {
        let value = table.get(key)?;
        let path = table.join(key);
        // Sub-tables such as `[feed.seas]` give their parent no header of its own.
        let hint = match value.get_ref() {
            DeValue::Array(_) => format!("write [{path}] with single brackets"),
            _ => format!("write {key} = {{ … }}, or a line [{path}] and its keys below"),
        };
        self.as_table(path, value, table.key_span(key), hint)
    }

    /// A value that must be a table.
    pub fn as_table(
        &mut self,
        path: String,
        value: &'a Spanned<DeValue<'a>>,
        span: Range<usize>,
        hint: String,
    ) -> Option<Table<'a>> {
        match value.get_ref().as_table() {
            Some(entries) => Some(Table::new(entries, path, span)),
            None => {
                self.wrong_type(&path, "a table", value, hint);
                None
            }
        }
    }

    /// Tables that share a key and have names of their own: `[feed.NAME]`.
    pub fn named_tables(
        &mut self,
        table: &mut Table<'a>,
        key: &'static str,
    ) -> Vec<(&'a str, Table<'a>)> {
        let Some(all) = self.table(table, key) else { return Vec::new() };
        let mut tables = Vec::new();
        for (name, value) in all.names() {
            let (text, span) = (name.value, name.span.clone());
            if self.understood(name, values::name).is_none() {
                continue;
            }
            let hint = format!("each {key} has a name: [{key}.NAME]");
            if let Some(table) = self.as_table(all.join(text), value, span, hint) {
                tables.push((text, table));
            }
        }
        tables
    }

    /// Tables in a list: `[[watch]]`.
    pub fn listed_tables(&mut self, table: &mut Table<'a>, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let hint = format!("write [[{key}]] with double brackets");
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, "a list of tables", value, hint);
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.as_table(key.to_owned(), item, item.span(), hint.clone()))
            .collect()
    }

    /// A secret's source. A secret that stands in the file itself is an error, and is not shown.
    pub fn secret(&mut self, table: &mut Table<'a>, key: &'static str) -> Option<SecretSource> {
        let value = table.get(key)?;
        self.secret_source(table.join(key), value)
    }

    /// Names with a secret's source each: `headers`.
    pub fn secrets(
        &mut self,
        table: &mut Table<'a>,
        key: &'static str,
    ) -> Vec<(Placed<&'a str>, SecretSource)> {
        let Some(all) = self.table(table, key) else { return Vec::new() };
        let mut secrets = Vec::new();
        for (name, value) in all.names() {
            if let Some(source) = self.secret_source(all.join(name.value), value) {
                secrets.push((name, source));
            }
        }
        secrets
    }

    fn secret_source(
        &mut self,
        path: String,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<SecretSource> {
        let variable: String = path
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let hint = format!(
            "say where it is kept: {{ env = \"{variable}\" }}, {{ file = \"…\" }} or \
             {{ credential = \"…\" }}"
        );
        let span = value.span();
        let Some(entries) = value.get_ref().as_table() else {
            self.hide(value);
            self.error(span, format!("`{path}` is a secret and must not stand in this file"), hint);
            return None;
        };
        for (key, value) in entries {
            if !["env", "file", "credential"].contains(&key.get_ref().as_ref()) {
                self.hide(value);
            }
        }
        let mut table = Table::new(entries, path.clone(), span.clone());
        let base = self.base;
        let named = |this: &mut Self, table: &mut Table<'a>, key| {
            let text = this.text(table, key)?;
            let hidden = text.span.start + 1..text.span.end.saturating_sub(1);
            let source = this.understood(text, values::source_name);
            if source.is_none() {
                this.report.mask(hidden);
            }
            source
        };
        let sources = [
            named(self, &mut table, "env").map(SecretSource::Env),
            self.parsed(&mut table, "file", |text| values::path(text, base))
                .map(SecretSource::File),
            named(self, &mut table, "credential").map(SecretSource::Credential),
        ];
        self.finish(table);
        let mut sources = sources.into_iter().flatten();
        match (sources.next(), sources.next()) {
            (Some(source), None) => {
                self.needed.push((path, source.clone(), span));
                Some(source)
            }
            (Some(_), Some(_)) => {
                self.error(span, format!("`{path}` has more than one source"), "keep one of them");
                None
            }
            (None, _) => {
                if entries.is_empty() {
                    self.error(span, format!("`{path}` names no source"), hint);
                }
                None
            }
        }
    }

    /// Keeps a value out of every message.
    fn hide(&mut self, value: &Spanned<DeValue<'_>>) {
        let span = value.span();
        self.report.mask(if value.get_ref().is_str() && span.len() > 2 {
            span.start + 1..span.end - 1
        } else {
            span
        });
    }
}
