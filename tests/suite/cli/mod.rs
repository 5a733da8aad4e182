//! The command line, driven as a person or a script drives it: the real program against a real
//! server, on SQLite and on PostgreSQL.

mod asking;
mod bad_input;
mod keys;
mod lifecycle;
mod local;
mod removals;
mod schemas;
mod staleness;
mod tuples;
mod watching;

/// Runs each test on a fresh SQLite file and on a fresh PostgreSQL database.
macro_rules! on_each_record {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $test() {
                    super::$test(&crate::program::Record::sqlite());
                }
            )*
        }
        mod on_postgres {
            $(
                #[test]
                fn $test() {
                    if let Some(record) = crate::program::Record::postgres() {
                        super::$test(&record);
                    }
                }
            )*
        }
    };
}
use on_each_record;
