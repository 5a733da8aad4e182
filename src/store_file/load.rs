//! From the YAML of a store file to domain values: files joined in, texts parsed, products of
//! users and objects spelled out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::format::{
    RawCheck, RawContext, RawExpected, RawListObjects, RawListUsers, RawStoreFile, RawTest, RawTuple,
};
use super::tuple_file::{self, TupleFormat};
use crate::context::Context;
use crate::schema;
use crate::time::Timestamp;
use crate::tuple::{Object, RelationName, Subject, Tuple, TypeName};

/// Largest store file or schema file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A store file, ready to be run or written to a server.
#[derive(Debug)]
pub struct StoreFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The name it gives itself.
    pub name: Option<String>,
    /// The schema.
    pub model: Model,
    /// The tuples all tests share, in the order of the file; a key at most once.
    pub tuples: Vec<Tuple>,
    /// What should be true.
    pub tests: Vec<Test>,
}

/// A schema text and the file it stands in.
#[derive(Debug, Clone)]
pub struct Model {
    /// The file, for messages.
    pub path: PathBuf,
    /// The text in the schema language.
    pub text: String,
}

/// One test of a store file.
#[derive(Debug)]
pub struct Test {
    /// Its name, or `test N`.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// The moment to ask at; `None`: the moment of the run.
    pub now: Option<Timestamp>,
    /// Tuples of this test only; they shadow the shared ones of the same key.
    pub tuples: Vec<Tuple>,
    /// Questions with one answer.
    pub checks: Vec<CheckCase>,
    /// Lists of objects.
    pub list_objects: Vec<ListObjectsCase>,
    /// Lists of subjects.
    pub list_subjects: Vec<ListSubjectsCase>,
}

/// What a check should answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// `true`
    Allowed,
    /// `false`
    Denied,
    /// `conditional`: it depends on parameters the context lacks.
    Conditional,
}

/// One question.
#[derive(Debug, Clone)]
pub struct CheckCase {
    /// Line in the store file, counted from one.
    pub line: u64,
    /// The object asked about.
    pub object: Object,
    /// The relation.
    pub relation: RelationName,
    /// Who is asked about.
    pub subject: Subject,
    /// The request's context.
    pub context: Arc<Context>,
    /// What should come out.
    pub expected: Expected,
}

/// The objects of a type on which a subject has a relation.
#[derive(Debug, Clone)]
pub struct ListObjectsCase {
    /// Line in the store file, counted from one.
    pub line: u64,
    /// Who is asked about.
    pub subject: Subject,
    /// The relation.
    pub relation: RelationName,
    /// The type of object.
    pub object_type: TypeName,
    /// The request's context.
    pub context: Arc<Context>,
    /// Exactly these objects should come out.
    pub expected: BTreeSet<Object>,
}

/// The subjects that have a relation to an object.
#[derive(Debug, Clone)]
pub struct ListSubjectsCase {
    /// Line in the store file, counted from one.
    pub line: u64,
    /// The object asked about.
    pub object: Object,
    /// The relation.
    pub relation: RelationName,
    /// The kinds of subject asked for; the answer is their union.
    pub filters: Vec<SubjectFilter>,
    /// The request's context.
    pub context: Arc<Context>,
    /// What should come out.
    pub expected: ExpectedSubjects,
}

/// A kind of subject: objects of a type, or usersets of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectFilter {
    /// The type.
    pub subject_type: TypeName,
    /// The relation of a userset.
    pub relation: Option<RelationName>,
}

impl std::fmt::Display for SubjectFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.relation {
            None => write!(f, "{}", self.subject_type),
            Some(relation) => write!(f, "{}#{relation}", self.subject_type),
        }
    }
}

/// The subjects a list should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedSubjects {
    /// Exactly these, wildcards included.
    pub subjects: BTreeSet<Subject>,
    /// The exceptions of a wildcard, if the test says.
    pub excluded: Option<BTreeSet<Subject>>,
}

/// Why a store file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The YAML is malformed, or holds a key the format does not have.
    #[error("{}: {message}", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// Something in the file does not mean anything.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, counted from one.
        line: u64,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Reads a store file and the files it names, which must lie in its directory or below.
pub fn load(path: &Path) -> Result<StoreFile, LoadError> {
    let text = read_text(path)?;
    let raw: RawStoreFile = serde_saphyr::from_str_with_options(&text, tuple_file::yaml_options())
        .map_err(|error| malformed(path, &error))?;
    let loader = Loader { path };
    let model = loader.model(raw.model, raw.model_file)?;
    let tuples = loader.tuples(raw.tuples, raw.tuple_file.as_ref(), &raw.tuple_files)?;
    let mut tests = Vec::with_capacity(raw.tests.len());
    for (number, test) in (1..).zip(raw.tests) {
        tests.push(loader.test(number, test)?);
    }
    Ok(StoreFile { path: path.to_owned(), name: raw.name, model, tuples, tests })
}

/// A mistake of the YAML at its place. The message begins with the place in words, which goes
/// before it as a path and a line like every other.
fn malformed(path: &Path, error: &serde_saphyr::Error) -> LoadError {
    let path = path.to_owned();
    let message = error.without_snippet().to_string();
    match error.location() {
        None => LoadError::Yaml { path, message },
        Some(place) => {
            let (line, column) = (place.line(), place.column());
            let message = message.trim_start_matches("error: ");
            let message = message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
            LoadError::Invalid { path, line, message: message.to_owned() }
        }
    }
}

/// The schema language's text of OpenFGA's JSON form.
pub fn schema_of_json(text: &str) -> Result<String, String> {
    let json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let document = schema::document_from_json(&json).map_err(|diagnostics| diagnostics.to_string())?;
    schema::print_document(&document).map_err(|error| error.to_string())
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE_BYTES {
        return Err(LoadError::Yaml {
            path: path.to_owned(),
            message: format!("larger than {} MiB", MAX_FILE_BYTES >> 20),
        });
    }
    fs::read_to_string(path).map_err(io)
}

/// What is needed to make sense of one file.
struct Loader<'a> {
    path: &'a Path,
}

impl Loader<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over as they are met")]
    fn invalid(&self, line: u64, message: impl ToString) -> LoadError {
        LoadError::Invalid { path: self.path.to_owned(), line, message: message.to_string() }
    }

    fn model(&self, inline: Option<String>, file: Option<Spanned<String>>) -> Result<Model, LoadError> {
        match (inline, file) {
            // As the format has it, a schema written out beats a file.
            (Some(text), _) => Ok(Model { path: self.path.to_owned(), text }),
            (None, Some(file)) => {
                let path = self.beside(&file)?;
                let text = read_text(&path)?;
                let text = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => schema_of_json(&text)
                        .map_err(|message| LoadError::Yaml { path: path.clone(), message })?,
                    Some("mod") => {
                        let message = "schemas in modules are not read: name one file with the whole schema";
                        return Err(self.invalid(file.referenced.line(), message));
                    }
                    _ => text,
                };
                Ok(Model { path, text })
            }
            (None, None) => {
                Err(self
                    .invalid(1, "no schema: give it as `model` or name its file as `model_file: schema.fga`"))
            }
        }
    }

    /// The path of a file named in the store file: below its directory, symbolic links included.
    fn beside(&self, name: &Spanned<String>) -> Result<PathBuf, LoadError> {
        let line = name.referenced.line();
        let named = Path::new(&name.value);
        let plain = named.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let outside = || {
            self.invalid(
                line,
                format!(
                    "`{}` is outside the directory of the store file: move it there, files elsewhere are not read",
                    name.value
                ),
            )
        };
        if !plain || name.value.is_empty() {
            return Err(outside());
        }
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let joined = directory.join(named);
        let real = |path: &Path| {
            path.canonicalize().map_err(|source| LoadError::Io { path: path.to_owned(), source })
        };
        if !real(&joined)?.starts_with(real(directory)?) {
            return Err(outside());
        }
        Ok(joined)
    }

    fn tuples(
        &self,
        inline: Vec<Spanned<RawTuple>>,
        file: Option<&Spanned<String>>,
        files: &[Spanned<String>],
    ) -> Result<Vec<Tuple>, LoadError> {
        let mut tuples = Vec::new();
        let mut seen = BTreeSet::new();
        for raw in inline {
            let line = raw.referenced.line();
            let tuple = tuple_file::tuple(&raw.value).map_err(|error| self.invalid(line, error))?;
            if !seen.insert(tuple.key.clone()) {
                return Err(self.invalid(line, format!("tuple `{}` is there twice", tuple.key)));
            }
            tuples.push(tuple);
        }
        for name in file.into_iter().chain(files) {
            let path = self.beside(name)?;
            let format = TupleFormat::of_path(&path);
            let lines = path.extension().is_none_or(|extension| extension == "txt");
            if format == TupleFormat::Lines && !lines {
                return Err(self.invalid(
                    name.referenced.line(),
                    format!("`{}`: tuple files are .yaml, .json, .jsonl, .csv or .txt", name.value),
                ));
            }
            let input = File::open(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
            let broken = |error: tuple_file::TupleFileError| LoadError::Yaml {
                path: path.clone(),
                message: error.to_string(),
            };
            let input: Box<dyn std::io::BufRead + Send> = Box::new(BufReader::new(input));
            for entry in tuple_file::entries(format, input).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let there =
                    |message: String| LoadError::Invalid { path: path.clone(), line: entry.line, message };
                let tuple = entry.tuple.map_err(|error| there(error.to_string()))?;
                if !seen.insert(tuple.key.clone()) {
                    return Err(there(format!("tuple `{}` is there twice", tuple.key)));
                }
                tuples.push(tuple);
            }
        }
        Ok(tuples)
    }

    fn test(&self, number: usize, raw: Spanned<RawTest>) -> Result<Test, LoadError> {
        let line = raw.referenced.line();
        let raw = raw.value;
        let mut test = Test {
            name: raw.name.unwrap_or_else(|| format!("test {number}")),
            description: raw.description,
            now: raw.now.map(|now| now.parse()).transpose().map_err(|error| self.invalid(line, error))?,
            tuples: self.tuples(raw.tuples, raw.tuple_file.as_ref(), &raw.tuple_files)?,
            checks: Vec::new(),
            list_objects: Vec::new(),
            list_subjects: Vec::new(),
        };
        for check in raw.check {
            self.check(check, &mut test.checks)?;
        }
        for list in raw.list_objects {
            self.list_objects(list, &mut test.list_objects)?;
        }
        for list in raw.list_users {
            self.list_users(list, &mut test.list_subjects)?;
        }
        if test.checks.is_empty() && test.list_objects.is_empty() && test.list_subjects.is_empty() {
            return Err(self.invalid(line, format!("test `{}` asserts nothing", test.name)));
        }
        Ok(test)
    }

    fn check(&self, raw: Spanned<RawCheck>, cases: &mut Vec<CheckCase>) -> Result<(), LoadError> {
        let line = raw.referenced.line();
        let raw = raw.value;
        let context = self.context(line, raw.context)?;
        let subjects = self.one_or_many(line, "user", raw.user, raw.users)?;
        let objects = self.one_or_many(line, "object", raw.object, raw.objects)?;
        if raw.assertions.is_empty() {
            return Err(self.invalid(line, "`assertions` is empty: name a relation and `true` or `false`"));
        }
        for subject in &subjects {
            for object in &objects {
                for (relation, expected) in &raw.assertions {
                    cases.push(CheckCase {
                        line,
                        object: self.parse(line, object)?,
                        relation: self.parse(line, relation)?,
                        subject: self.parse(line, subject)?,
                        context: context.clone(),
                        expected: self.expected(line, expected)?,
                    });
                }
            }
        }
        Ok(())
    }

    fn list_objects(
        &self,
        raw: Spanned<RawListObjects>,
        cases: &mut Vec<ListObjectsCase>,
    ) -> Result<(), LoadError> {
        let line = raw.referenced.line();
        let raw = raw.value;
        let context = self.context(line, raw.context)?;
        for (relation, objects) in &raw.assertions {
            cases.push(ListObjectsCase {
                line,
                subject: self.parse(line, &raw.user)?,
                relation: self.parse(line, relation)?,
                object_type: self.parse(line, &raw.object_type)?,
                context: context.clone(),
                expected: self.set(line, objects)?,
            });
        }
        Ok(())
    }

    fn list_users(
        &self,
        raw: Spanned<RawListUsers>,
        cases: &mut Vec<ListSubjectsCase>,
    ) -> Result<(), LoadError> {
        let line = raw.referenced.line();
        let raw = raw.value;
        let context = self.context(line, raw.context)?;
        let mut filters = Vec::with_capacity(raw.user_filter.len());
        for filter in &raw.user_filter {
            filters.push(SubjectFilter {
                subject_type: self.parse(line, &filter.subject_type)?,
                relation: filter.relation.as_deref().map(|name| self.parse(line, name)).transpose()?,
            });
        }
        if filters.is_empty() {
            return Err(self.invalid(line, "`user_filter` is empty: name a type, such as `- type: user`"));
        }
        for (relation, expected) in &raw.assertions {
            cases.push(ListSubjectsCase {
                line,
                object: self.parse(line, &raw.object)?,
                relation: self.parse(line, relation)?,
                filters: filters.clone(),
                context: context.clone(),
                expected: ExpectedSubjects {
                    subjects: self.set(line, &expected.users)?,
                    excluded: expected
                        .excluded_users
                        .as_ref()
                        .map(|users| self.set(line, users))
                        .transpose()?,
                },
            });
        }
        Ok(())
    }

    fn parse<T: std::str::FromStr<Err: ToString>>(&self, line: u64, text: &str) -> Result<T, LoadError> {
        text.parse().map_err(|error: T::Err| self.invalid(line, error))
    }

    fn set<T>(&self, line: u64, texts: &[String]) -> Result<BTreeSet<T>, LoadError>
    where
        T: std::str::FromStr<Err: ToString> + Ord,
    {
        texts.iter().map(|text| self.parse(line, text)).collect()
    }

    fn context(&self, line: u64, raw: Option<RawContext>) -> Result<Arc<Context>, LoadError> {
        let values = serde_json::Value::Object(raw.unwrap_or_default());
        Context::try_from(values).map(Arc::new).map_err(|error| self.invalid(line, error))
    }

    fn expected(&self, line: u64, raw: &RawExpected) -> Result<Expected, LoadError> {
        match raw {
            RawExpected::Decided(true) => Ok(Expected::Allowed),
            RawExpected::Decided(false) => Ok(Expected::Denied),
            RawExpected::Word(word) if word == "conditional" => Ok(Expected::Conditional),
            RawExpected::Word(word) => Err(self.invalid(
                line,
                format!("`{}` is no answer: write true, false or conditional", word.escape_debug()),
            )),
        }
    }

    /// `user` or `users`, not both and not neither.
    fn one_or_many(
        &self,
        line: u64,
        key: &str,
        one: Option<String>,
        many: Vec<String>,
    ) -> Result<Vec<String>, LoadError> {
        match (one, many.is_empty()) {
            (Some(one), true) => Ok(vec![one]),
            (None, false) => Ok(many),
            (Some(_), false) => Err(self.invalid(line, format!("give `{key}` or `{key}s`, not both"))),
            (None, true) => Err(self.invalid(line, format!("`{key}` is missing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<StoreFile, LoadError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.fga.yaml");
        fs::write(&path, text).expect("a file");
        fs::write(directory.path().join("schema.fga"), "model\n  schema 1.1\ntype user\n").expect("a file");
        fs::write(directory.path().join("more.csv"), "object,relation,subject\ndoc:2,viewer,user:bob\n")
            .expect("a file");
        fs::write(directory.path().join("bad.jsonl"), "\n{\"object\":\"doc\"}\n").expect("a file");
        load(&path)
    }

    fn error(text: &str) -> String {
        load_text(text).expect_err("a refused file").to_string()
    }

    #[test]
    fn users_and_objects_multiply() {
        let file = load_text(
            "name: example\n\
             model_file: ./schema.fga\n\
             tuple_files: [more.csv]\n\
             tuples:\n\
             - {user: 'user:ann', relation: viewer, object: 'doc:1'}\n\
             tests:\n\
             - check:\n\
             \x20 - users: ['user:ann', 'user:bob']\n\
             \x20   objects: ['doc:1', 'doc:2']\n\
             \x20   context: {n: 9007199254740993}\n\
             \x20   assertions: {viewer: true, editor: false, owner: conditional}\n",
        )
        .expect("a store file");
        assert_eq!(file.tuples.len(), 2);
        let [test] = &file.tests[..] else { panic!("one test") };
        assert_eq!((test.name.as_str(), test.checks.len()), ("test 1", 12));
        assert_eq!(test.checks[0].line, 8);
        assert_eq!(
            test.checks[0].context.value("n"),
            Some(&crate::context::Value::Int(9_007_199_254_740_993))
        );
        assert_eq!(test.checks.iter().filter(|case| case.expected == Expected::Conditional).count(), 4);
    }

    #[test]
    fn unknown_keys_are_named_with_their_place() {
        let top = error("model_file: schema.fga\ncolour: red\n");
        assert!(top.contains(".yaml:2: unknown field `colour`, expected one of name"), "{top}");
        let nested = error(
            "model_file: schema.fga\ntests:\n- name: a\n  check:\n  - user: user:a\n    object: doc:1\n    unexpected: 1\n    assertions: {viewer: true}\n",
        );
        assert!(nested.contains(".yaml:7: unknown field `unexpected`"), "{nested}");
    }

    #[test]
    fn files_outside_the_directory_are_refused() {
        for name in ["../schema.fga", "/etc/passwd", "a/../../schema.fga", ""] {
            let message = error(&format!("model_file: '{name}'\n"));
            assert!(message.contains("outside the directory"), "{name}: {message}");
        }
    }

    #[test]
    fn a_schema_may_be_in_the_json_form() {
        let directory = tempfile::tempdir().expect("a directory");
        let json = schema::to_json(&schema::parse("model\n  schema 1.1\n\ntype user\n").expect("a schema"));
        fs::write(directory.path().join("model.json"), json.to_string()).expect("a file");
        fs::write(directory.path().join("broken.json"), "{").expect("a file");
        let path = directory.path().join("store.fga.yaml");
        fs::write(&path, "model_file: model.json\n").expect("a file");
        assert_eq!(load(&path).expect("a store file").model.text, "model\n  schema 1.1\n\ntype user\n");
        fs::write(&path, "model_file: broken.json\n").expect("a file");
        assert!(load(&path).expect_err("refused").to_string().contains("broken.json: not JSON"));
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_does_not_lead_out() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("schema.fga"), "model\n  schema 1.1\ntype user\n").expect("a file");
        let directory = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(outside.path().join("schema.fga"), directory.path().join("schema.fga"))
            .expect("a link");
        let path = directory.path().join("store.fga.yaml");
        fs::write(&path, "model_file: schema.fga\n").expect("a file");
        assert!(load(&path).expect_err("refused").to_string().contains("outside the directory"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let model = "model_file: schema.fga\n";
        assert!(error("name: a\n").contains("no schema"));
        assert!(
            error(&format!("{model}tuples:\n- {{user: ann, relation: v, object: 'doc:1'}}\n"))
                .contains(":3: `ann`")
        );
        assert!(error(&format!("{model}tuple_file: bad.jsonl\n")).contains("bad.jsonl:2:"));
        assert!(error(&format!("{model}tuple_file: gone.jsonl\n")).contains("gone.jsonl"));
        assert!(
            error(&format!(
                "{model}tuples:\n- {{user: 'user:a', relation: v, object: 'doc:1'}}\n- {{user: 'user:a', relation: v, object: 'doc:1'}}\n"
            ))
            .contains(":4: tuple `doc:1#v@user:a` is there twice")
        );
        let check = |rest: &str| error(&format!("{model}tests:\n- check:\n  - {rest}\n"));
        assert!(
            check("{user: 'user:a', object: 'doc:1', assertions: {v: maybe}}")
                .contains("`maybe` is no answer")
        );
        assert!(
            check("{user: 'user:a', users: ['user:b'], object: 'doc:1', assertions: {v: true}}")
                .contains("not both")
        );
        assert!(check("{user: 'user:a', assertions: {v: true}}").contains("`object` is missing"));
        assert!(error(&format!("{model}tests:\n- name: empty\n")).contains("asserts nothing"));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "model_file: schema.fga\ntuples:\n- user: user:a\n  relation: v\n  object: doc:1\n  \
                        condition:\n    name: c\n    context:\n      a: &a [x,x,x,x,x,x,x,x,x]\n"
            .to_owned();
        for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
            let (from, to) = pair.split_at(1);
            let aliases = vec![format!("*{from}"); 9].join(",");
            text = format!("{text}      {to}: &{to} [{aliases}]\n");
        }
        let message = error(&text);
        assert!(message.contains("budget breached") || message.contains("alias"), "{message}");
    }
}
