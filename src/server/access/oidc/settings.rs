//! The file that says whose tokens are taken, and what they may do. YAML, so JSON too.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::algorithm::{Algorithm, UnknownAlgorithm};
use super::keys::{KeySet, KeySetError};
use super::rules::{Rule, RuleError, RuleText};
use super::token::Expected;
use crate::server::changes::{Contents, FileError};
use crate::server::convert::{clip, without_userinfo};

/// Most issuers of a file, rules of an issuer, and bytes of an issuer's name.
const MAX_ISSUERS: usize = 32;
const MAX_RULES: usize = 1_000;
const MAX_ISSUER_BYTES: usize = 500;
/// Algorithms taken where none are named: one of each family, as most issuers use them.
const USUAL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

const DAY: u64 = 24 * 60 * 60;

/// Whose tokens are taken, and how they are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerSettings {
    /// Its name, as its tokens have it in `iss`.
    pub issuer: Box<str>,
    /// What its tokens must say.
    pub expected: Expected,
    /// How it may sign.
    pub algorithms: Vec<Algorithm>,
    /// What its tokens give.
    pub rules: Vec<Rule>,
    /// Where its keys are.
    pub source: Source,
    /// Authorities to trust for it instead of the system's, PEM.
    pub authorities: Option<Vec<u8>>,
    /// How often its keys are fetched.
    pub refresh: Duration,
    /// How often at most its keys are fetched because a token names an unknown one.
    pub refetch: Duration,
    /// How long keys are used that could not be fetched again.
    pub keep_keys: Duration,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Where the issuer's discovery document says.
    Discovery,
    /// At an address.
    Address(Url),
    /// In a file, which is read with the settings.
    File,
}

/// An issuer of the file, with the keys of its file if it has one.
pub struct Configured {
    /// The settings.
    pub settings: IssuerSettings,
    /// Keys from a file.
    pub keys: Option<KeySet>,
}

/// The file as read, with the files it names.
pub struct Reading {
    /// All of them; the settings are the first.
    pub files: Vec<PathBuf>,
    /// What they held.
    pub contents: Result<Contents, FileError>,
    /// What that means.
    pub outcome: Result<Vec<Configured>, OidcConfigError>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcConfigError {
    /// It, or a file it names, cannot be read.
    #[error("{0}")]
    File(String),
    /// It is not what such a file looks like.
    #[error("`{}` cannot be understood: {message}", .path.display())]
    Shape { path: PathBuf, message: String },
    /// There is nobody whose tokens are taken.
    #[error("`{}` names no issuer; write `issuers:` with at least one", .path.display())]
    Nobody { path: PathBuf },
    /// More issuers than anybody has.
    #[error("`{}` names {count} issuers, more than {MAX_ISSUERS}", .path.display())]
    TooMany { path: PathBuf, count: usize },
    /// One issuer twice: which settings count must not be a question.
    #[error("issuer `{}` is there twice", without_userinfo(issuer))]
    Twice { issuer: String },
    /// An issuer cannot be asked, whatever its state.
    #[error("issuer `{}`: {why}", without_userinfo(issuer))]
    Client { issuer: String, why: String },
    /// Something is wrong with an issuer.
    #[error("issuer `{}`: {problem}", without_userinfo(issuer))]
    Issuer { issuer: String, problem: IssuerProblem },
}

/// What is wrong with an issuer's settings.
#[derive(Debug, thiserror::Error)]
pub enum IssuerProblem {
    /// Anybody with any token of the issuer would be let in.
    #[error(
        "`audience` is missing: without it, a token that was signed for any other service would be let in; write the name by which the issuer's tokens mean this server"
    )]
    NoAudience,
    /// An audience that no token should have.
    #[error("an `audience` is empty")]
    EmptyAudience,
    /// Its name is not a URL that OIDC allows.
    #[error("an issuer is a URL without query and fragment, of at most {MAX_ISSUER_BYTES} bytes")]
    Name,
    /// A password that would be kept and shown with the URL.
    #[error("a URL here holds no name or password before an `@`: it is shown in logs and to callers")]
    Userinfo,
    /// What is fetched could be replaced on its way.
    #[error("`{url}` must begin with https://; http:// is for loopback addresses")]
    Insecure { url: String },
    /// An issuer that is encrypted says that its keys are where nothing is.
    #[error("`{url}` is not encrypted, and the issuer is")]
    Unencrypted { url: String },
    /// Not a URL.
    #[error("`{url}` is not a URL")]
    Url { url: String },
    /// Two places for the same keys.
    #[error("`jwks_url` and `jwks_file` are both given; the keys have one place")]
    TwoPlaces,
    /// Nothing could be signed.
    #[error("`algorithms` is empty")]
    NoAlgorithms,
    /// An algorithm that is not taken.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// A number out of its bounds.
    #[error("`{field}` is {value}; it goes from {least} to {most}")]
    Bounds { field: &'static str, value: u64, least: u64, most: u64 },
    /// A rule cannot be used.
    #[error("rule {number}: {problem}")]
    Rule { number: usize, problem: RuleError },
    /// More rules than a call may look through.
    #[error("{0} rules, more than {MAX_RULES}")]
    TooManyRules(usize),
    /// The file of keys holds none.
    #[error("`jwks_file`: {0}")]
    Keys(#[from] KeySetError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    issuers: Vec<IssuerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerText {
    issuer: String,
    audience: Option<OneOrMore>,
    algorithms: Option<Vec<String>>,
    subject: Option<String>,
    leeway_seconds: Option<u64>,
    max_token_age_seconds: Option<u64>,
    refresh_seconds: Option<u64>,
    refetch_seconds: Option<u64>,
    keep_keys_seconds: Option<u64>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// Reads the settings and the files they name.
pub fn read(path: &Path) -> Reading {
    // A file that changes between two looks is looked at again, a few times.
    for _ in 0..5 {
        let settings = vec![path.to_owned()];
        let first = match Contents::read(&settings) {
            Ok(first) => first,
            Err(error) => return unreadable(settings, error),
        };
        let document = match parse(path, first.get(0)) {
            Ok(document) => document,
            Err(error) => return Reading { files: settings, contents: Ok(first), outcome: Err(error) },
        };
        let files = files(path, &document);
        match Contents::read(&files) {
            Err(error) => return unreadable(files, error),
            Ok(contents) if contents.get(0) == first.get(0) => {
                let outcome = configure(path, document, &files, &contents);
                return Reading { files, contents: Ok(contents), outcome };
            }
            Ok(_) => {}
        }
    }
    let error = FileError::new(path, io::Error::other("the file does not stop changing"));
    unreadable(vec![path.to_owned()], error)
}

fn unreadable(files: Vec<PathBuf>, error: FileError) -> Reading {
    let outcome = Err(OidcConfigError::File(crate::server::logging::with_cause(&error)));
    Reading { files, contents: Err(error), outcome }
}

fn parse(path: &Path, text: &[u8]) -> Result<Document, OidcConfigError> {
    let shape = |message: String| OidcConfigError::Shape { path: path.to_owned(), message };
    let text = std::str::from_utf8(text).map_err(|error| shape(error.to_string()))?;
    serde_saphyr::from_str(text).map_err(|error| shape(error.to_string()))
}

/// The file itself, then those it names, each once. Their paths begin where it is.
fn files(path: &Path, document: &Document) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    for issuer in &document.issuers {
        for named in [&issuer.jwks_file, &issuer.ca_file].into_iter().flatten() {
            let named = beside(path, named);
            if !files.contains(&named) {
                files.push(named);
            }
        }
    }
    files
}

fn beside(path: &Path, named: &Path) -> PathBuf {
    path.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

fn configure(
    path: &Path,
    document: Document,
    files: &[PathBuf],
    contents: &Contents,
) -> Result<Vec<Configured>, OidcConfigError> {
    match document.issuers.len() {
        0 => return Err(OidcConfigError::Nobody { path: path.to_owned() }),
        count if count > MAX_ISSUERS => {
            return Err(OidcConfigError::TooMany { path: path.to_owned(), count });
        }
        _ => {}
    }
    let held = |named: &Path| {
        let place = files.iter().position(|file| *file == beside(path, named));
        place.map_or(&[][..], |place| contents.get(place))
    };
    let mut configured: Vec<Configured> = Vec::new();
    for text in document.issuers {
        let issuer = text.issuer.clone();
        if configured.iter().any(|known| *known.settings.issuer == *issuer) {
            return Err(OidcConfigError::Twice { issuer });
        }
        let one = text.configure(held).map_err(|problem| OidcConfigError::Issuer { issuer, problem })?;
        configured.push(one);
    }
    Ok(configured)
}

impl IssuerText {
    fn configure<'a>(self, held: impl Fn(&Path) -> &'a [u8]) -> Result<Configured, IssuerProblem> {
        is_issuer(&self.issuer)?;
        let audience = match self.audience {
            None => return Err(IssuerProblem::NoAudience),
            Some(OneOrMore::One(one)) => vec![one],
            Some(OneOrMore::More(several)) if several.is_empty() => return Err(IssuerProblem::NoAudience),
            Some(OneOrMore::More(several)) => several,
        };
        if audience.iter().any(|one| one.trim().is_empty()) {
            return Err(IssuerProblem::EmptyAudience);
        }
        let algorithms = match self.algorithms {
            None => USUAL.to_vec(),
            Some(names) if names.is_empty() => return Err(IssuerProblem::NoAlgorithms),
            Some(names) => names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        };
        let (source, keys) = match (self.jwks_url, self.jwks_file) {
            (Some(_), Some(_)) => return Err(IssuerProblem::TwoPlaces),
            (Some(url), None) => (Source::Address(secure_url(&url)?), None),
            (None, Some(file)) => (Source::File, Some(KeySet::read(held(&file))?)),
            (None, None) => {
                secure_url(&self.issuer)?;
                (Source::Discovery, None)
            }
        };
        if self.rules.len() > MAX_RULES {
            return Err(IssuerProblem::TooManyRules(self.rules.len()));
        }
        let rule = |(index, text): (usize, RuleText)| {
            Rule::try_from(text).map_err(|problem| IssuerProblem::Rule { number: index + 1, problem })
        };
        let refresh = within("refresh_seconds", self.refresh_seconds.unwrap_or(600), 1, DAY)?;
        let keep_keys = self.keep_keys_seconds.unwrap_or(6 * 60 * 60);
        let max_age = self.max_token_age_seconds;
        let settings = IssuerSettings {
            issuer: self.issuer.into(),
            expected: Expected {
                audience,
                subject: self.subject.unwrap_or_else(|| "sub".to_owned()),
                leeway: within("leeway_seconds", self.leeway_seconds.unwrap_or(30), 0, 300)?,
                max_age: max_age.map(|age| within("max_token_age_seconds", age, 1, 366 * DAY)).transpose()?,
            },
            algorithms,
            rules: self.rules.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?,
            source,
            authorities: self.ca_file.map(|file| held(&file).to_vec()),
            refresh,
            refetch: within("refetch_seconds", self.refetch_seconds.unwrap_or(10), 1, DAY)?,
            keep_keys: within("keep_keys_seconds", keep_keys, refresh.as_secs(), 30 * DAY)?,
        };
        Ok(Configured { settings, keys })
    }
}

/// `OpenID` Connect Core §2: a URL without query and fragment. It also goes into the names of
/// callers, before a `|`.
fn is_issuer(text: &str) -> Result<(), IssuerProblem> {
    let shown = text.len() <= MAX_ISSUER_BYTES
        && !text.chars().any(|c| c == '|' || c.is_whitespace() || c.is_control());
    let url = Url::parse(text).map_err(|_| IssuerProblem::Name)?;
    if has_userinfo(&url) {
        return Err(IssuerProblem::Userinfo);
    }
    let plain = url.query().is_none() && url.fragment().is_none() && url.has_host();
    if shown && plain { Ok(()) } else { Err(IssuerProblem::Name) }
}

/// A URL from which keys may be fetched: nobody on the way can replace them.
pub fn secure_url(text: &str) -> Result<Url, IssuerProblem> {
    let url = Url::parse(text).map_err(|_| IssuerProblem::Url { url: without_userinfo(text) })?;
    if has_userinfo(&url) {
        return Err(IssuerProblem::Userinfo);
    }
    let secure = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(&url),
        _ => false,
    };
    if secure { Ok(url) } else { Err(IssuerProblem::Insecure { url: clip(text) }) }
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<Duration, IssuerProblem> {
    if (least..=most).contains(&value) {
        Ok(Duration::from_secs(value))
    } else {
        Err(IssuerProblem::Bounds { field, value, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
issuers:
  - issuer: https://login.example.com/realms/prod
    audience: relata
    algorithms: [RS256, PS256]
    subject: email
    leeway_seconds: 10
    max_token_age_seconds: 3600
    ca_file: ca.pem
    rules:
      - { claim: groups, contains: ops, grants: ['*:admin'] }
      - { claim: [realm_access, roles], contains: docs, grants: ['docs:read,write', 'wiki:read'] }
      - { claim: scope, has_word: relata.read, grants: ['*:read'] }
      - grants: ['public:read']
  - issuer: http://127.0.0.1:9000
    audience: [a, b]
    jwks_file: keys.json
";

    fn read_text(text: &str) -> Result<Vec<Configured>, OidcConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("oidc.yaml");
        std::fs::write(&path, text).expect("a file");
        std::fs::write(folder.path().join("keys.json"), r#"{"keys": []}"#).expect("a file");
        std::fs::write(folder.path().join("ca.pem"), "not looked at here").expect("a file");
        read(&path).outcome
    }

    #[test]
    fn a_whole_file_is_read() {
        let configured = read_text(GOOD).expect("issuers");
        let [first, second] = configured.as_slice() else { panic!("two issuers") };
        assert_eq!(&*first.settings.issuer, "https://login.example.com/realms/prod");
        assert_eq!(first.settings.algorithms, [Algorithm::Rs256, Algorithm::Ps256]);
        assert_eq!(first.settings.expected.subject, "email");
        assert_eq!(first.settings.expected.leeway, Duration::from_secs(10));
        assert_eq!(first.settings.rules.len(), 4);
        assert_eq!((&first.settings.source, first.keys.is_some()), (&Source::Discovery, false));
        assert_eq!(first.settings.authorities.as_deref(), Some(&b"not looked at here"[..]));
        assert_eq!(second.settings.algorithms, USUAL);
        assert_eq!(second.settings.expected.audience, ["a", "b"]);
        assert_eq!((&second.settings.source, second.keys.is_some()), (&Source::File, true));
        // JSON is YAML.
        let json = r#"{"issuers": [{"issuer": "https://a.example", "audience": "relata"}]}"#;
        assert_eq!(read_text(json).expect("issuers").len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, expected: &str| {
            let message = read_text(text).err().unwrap_or_else(|| panic!("taken: {text}")).to_string();
            assert!(message.contains(expected), "`{expected}` is not in: {message}");
        };
        let with = |issuer: &str, more: &str| format!("issuers:\n  - issuer: {issuer}\n{more}");
        let https = "https://a.example";
        let fine = "    audience: relata\n";
        check("", "names no issuer");
        check("issuers: []", "names no issuer");
        check("issuer: https://a.example", "cannot be understood");
        check(&with(https, ""), "`audience` is missing");
        check(&with(https, "    audience: []\n"), "`audience` is missing");
        check(&with(https, "    audience: ''\n"), "an `audience` is empty");
        check(&with(https, "    audience: [relata, ' ']\n"), "an `audience` is empty");
        check(&with(https, "    audiences: relata\n"), "cannot be understood");
        check(&with("http://a.example", fine), "must begin with https://");
        check(&with("http://127.0.0.1.example", fine), "must begin with https://");
        check(&with("http://10.0.0.1", fine), "must begin with https://");
        check(&with("ftp://a.example", fine), "must begin with https://");
        check(&with("https://a.example/?x=1", fine), "without query");
        check(&with("https://a.example/|b", fine), "without query");
        check(&with("a.example", fine), "without query");
        check(
            &with(https, &format!("{fine}    jwks_url: http://a.example/keys\n")),
            "must begin with https://",
        );
        let both = format!("{fine}    jwks_url: https://a.example/keys\n    jwks_file: keys.json\n");
        check(&with(https, &both), "both given");
        check(&with(https, &format!("{fine}    jwks_file: none.json\n")), "cannot read");
        check(&with(https, &format!("{fine}    jwks_file: ca.pem\n")), "not a key set");
        check(&with(https, &format!("{fine}    algorithms: [none]\n")), "`none` is not an algorithm");
        check(&with(https, &format!("{fine}    algorithms: [HS256]\n")), "`HS256` is not an algorithm");
        check(&with(https, &format!("{fine}    algorithms: []\n")), "`algorithms` is empty");
        check(&with(https, &format!("{fine}    leeway_seconds: 301\n")), "goes from 0 to 300");
        check(&with(https, &format!("{fine}    keep_keys_seconds: 10\n")), "goes from 600 to");
        let rule = format!("{fine}    rules: [{{ claim: groups, grants: ['a:read'] }}]\n");
        check(&with(https, &rule), "rule 1: a rule names a `claim`");
        let twice = format!("{}  - issuer: {https}\n{fine}", with(https, fine));
        check(&twice, "is there twice");
        // A password in a URL is not repeated.
        let hidden = |text: &str, expected: &str| {
            let message = read_text(text).err().unwrap_or_else(|| panic!("taken: {text}")).to_string();
            assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
        };
        let before = "before an `@`";
        for scheme in ["https", "http", "ftp"] {
            let url = format!("{scheme}://user:hunter2@a.example");
            hidden(&with(&url, fine), before);
            hidden(&with(&url, &format!("{fine}    jwks_file: keys.json\n")), before);
            hidden(&with(&url, &format!("{fine}    jwks_url: https://a.example/keys\n")), before);
            hidden(&with(https, &format!("{fine}    jwks_url: {url}/keys\n")), before);
        }
        hidden(&with("https://user:hunter2@", fine), "without query");
        hidden(&with("https://user:hunter2@a.example", ""), before);
        hidden(&with(https, &format!("{fine}    jwks_url: https://user:hunter2@\n")), "is not a URL");
        // A discovery document that is all address does not fill the log.
        for long in [format!("http://a.example/{}", "x".repeat(100_000)), "x".repeat(100_000)] {
            let message = secure_url(&long).expect_err("refused").to_string();
            assert!(message.len() < 500, "{} bytes", message.len());
        }
    }

    #[test]
    fn loopback_may_do_without_encryption() {
        for here in ["http://127.0.0.1:9000", "http://[::1]:9000/x", "http://localhost/x"] {
            assert!(secure_url(here).is_ok(), "{here}");
        }
    }
}
