//! What a worker-side transform changed in the rows of one window, column by column, and the statement that writes it.

use shardlift_domain::spec::Undo;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::capture::Capture;
use super::walk::Walk;

/// Changes of many rows: for each column that any row touches, one text per row and whether that row touches it.
pub(super) struct Changes {
    /// Per key column, one text per row.
    keys: Vec<Vec<String>>,
    /// Per table column.
    columns: Vec<Option<Touched>>,
    rows: usize,
    bytes: usize,
}

#[derive(Default)]
struct Touched {
    values: Vec<Option<String>>,
    mask: Vec<bool>,
    /// How many rows touch it.
    count: usize,
}

impl Touched {
    fn pad(&mut self, rows: usize) {
        self.values.resize(rows, None);
        self.mask.resize(rows, false);
    }
}

impl Changes {
    pub(super) fn new(key_columns: usize, columns: usize) -> Self {
        Self {
            keys: vec![Vec::new(); key_columns],
            columns: std::iter::repeat_with(|| None).take(columns).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The row that the next calls of [`Changes::set`] speak of.
    pub(super) fn begin_row(&mut self, key: &[String]) {
        for (column, part) in self.keys.iter_mut().zip(key) {
            self.bytes += part.len() + size_of::<String>();
            column.push(part.clone());
        }
        self.rows += 1;
    }

    /// The new text of one column of that row.
    pub(super) fn set(&mut self, column: usize, text: Option<String>) {
        self.bytes += text.as_ref().map_or(0, String::len) + size_of::<Option<String>>();
        let touched = self.columns[column].get_or_insert_default();
        touched.pad(self.rows - 1);
        touched.values.push(text);
        touched.mask.push(true);
        touched.count += 1;
    }

    /// The statement; its parameters are those of [`Changes::bind`], then the bounds of the window, then the tenants; with
    /// before-images, then migration, version, range and batch.
    pub(super) fn statement(&self, walk: &Walk, after: bool, undo: Undo) -> String {
        let new = if undo == Undo::Capture { "shardlift_before" } else { "shardlift_new" };
        let (mut names, mut arrays, mut set) = (Vec::new(), Vec::new(), Vec::new());
        let mut parameter = 0;
        let mut array = |names: &mut Vec<String>, name: String, cast: &str| {
            parameter += 1;
            names.push(name);
            arrays.push(format!("${parameter}::{cast}"));
        };
        for n in 0..walk.key.columns().len() {
            array(&mut names, format!("shardlift_k{n}"), "text[]");
        }
        let mut fields = Vec::new();
        for (n, (touched, column)) in self.columns.iter().zip(&walk.table.columns).enumerate() {
            let Some(touched) = touched else { continue };
            fields.push(column.name.clone());
            array(&mut names, format!("shardlift_c{n}"), "text[]");
            let (name, value) = (column.sql(), format!("{new}.shardlift_c{n}::{}", column.cast));
            if touched.count == self.rows {
                set.push(format!("{name} = {value}"));
                continue;
            }
            array(&mut names, format!("shardlift_m{n}"), "boolean[]");
            set.push(format!(
                "{name} = CASE WHEN {new}.shardlift_m{n} THEN {value} ELSE {}.{name} END",
                walk.table.sql
            ));
        }
        let written = Written {
            rows: format!("unnest({}) AS shardlift_new ({})", arrays.join(", "), names.join(", ")),
            set: set.join(", "),
            bounds: parameter + 1,
            interval: walk.key.between(after.then_some(parameter + 1), Some(parameter + 2)),
        };
        match undo {
            Undo::None => written.plain(walk),
            Undo::Capture => written.capturing(walk, &Capture::of_columns(walk, fields)),
        }
    }

    /// Binds the arrays in the order in which the statement names them.
    pub(super) fn bind<'q>(
        &'q self,
        mut query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        for column in &self.keys {
            query = query.bind(column.as_slice());
        }
        for touched in self.columns.iter().flatten() {
            let missing = self.rows - touched.values.len();
            let values =
                touched.values.iter().map(Option::as_deref).chain(std::iter::repeat_n(None, missing));
            query = query.bind(values.collect::<Vec<Option<&str>>>());
            if touched.count < self.rows {
                let mask = touched.mask.iter().copied().chain(std::iter::repeat_n(false, missing));
                query = query.bind(mask.collect::<Vec<bool>>());
            }
        }
        query
    }
}

/// The parts of the statement.
struct Written {
    rows: String,
    set: String,
    /// The parameter of the window's lower bound; its upper one and the tenants follow.
    bounds: usize,
    interval: String,
}

impl Written {
    fn plain(&self, walk: &Walk) -> String {
        format!(
            "WITH changed AS (UPDATE {table} SET {set} FROM {rows} WHERE {same} AND {interval} \
             RETURNING {still} AS still) \
             SELECT count(*), count(*) FILTER (WHERE still) FROM changed",
            table = walk.table.sql,
            set = self.set,
            rows = self.rows,
            same = walk.key.same_as("shardlift_new"),
            interval = self.interval,
            still = walk.still(self.bounds + 2),
        )
    }

    /// With before-images. The rows are locked since they were read, so they are what they were.
    fn capturing(&self, walk: &Walk, capture: &Capture) -> String {
        let table = &walk.table.sql;
        let same = match walk.table.kind == "r" && !walk.table.inherited {
            true => format!("{table}.ctid = shardlift_before.shardlift_at"),
            false => walk.key.same_as("shardlift_before"),
        };
        let name: Vec<String> = (3..=6).map(|n| format!("${}", self.bounds + n)).collect();
        format!(
            "WITH shardlift_before AS MATERIALIZED (SELECT shardlift_new.*, {table}.ctid AS shardlift_at, {images} \
               FROM {rows} JOIN {table} ON {joins} WHERE {interval}), \
             changed AS (UPDATE {table} SET {set} FROM shardlift_before WHERE {same} \
               RETURNING {kept}, {still} AS still), \
             logged AS ({log}) \
             SELECT count(*), count(*) FILTER (WHERE still) FROM changed",
            images = capture.images(),
            rows = self.rows,
            joins = walk.key.same_as("shardlift_new"),
            interval = self.interval,
            set = self.set,
            kept = capture.kept("shardlift_before"),
            still = walk.still(self.bounds + 2),
            log = capture.log(&name.join(", ")),
        )
    }
}
