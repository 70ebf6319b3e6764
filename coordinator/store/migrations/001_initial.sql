-- The history of one federation. Rules for all tables: FORMAT.md section 6.
-- Times are microseconds since 1970 UTC, digests 64 lower-case hex digits.

CREATE TABLE institution (
  id           INTEGER PRIMARY KEY,
  name         TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  state        TEXT NOT NULL
               CHECK (state IN ('invited', 'active', 'suspended', 'revoked')),
  label_json   TEXT NOT NULL DEFAULT '{}',
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  last_seen_at INTEGER
) STRICT;

CREATE TABLE certificate (
  serial         TEXT PRIMARY KEY,
  subject_uri    TEXT NOT NULL,
  institution_id INTEGER REFERENCES institution (id),
  role           TEXT NOT NULL
                 CHECK (role IN ('institution', 'operator', 'auditor')),
  fingerprint    TEXT NOT NULL,
  not_before     INTEGER NOT NULL,
  not_after      INTEGER NOT NULL,
  issued_at      INTEGER NOT NULL,
  revoked_at     INTEGER,
  reason         TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_by_institution ON certificate (institution_id);
CREATE INDEX certificate_revoked ON certificate (not_after)
  WHERE revoked_at IS NOT NULL;

CREATE TABLE enrolment_token (
  token_hash     TEXT PRIMARY KEY CHECK (length(token_hash) = 64),
  institution_id INTEGER NOT NULL REFERENCES institution (id),
  role           TEXT NOT NULL
                 CHECK (role IN ('institution', 'operator', 'auditor')),
  expires_at     INTEGER NOT NULL,
  used_at        INTEGER,
  created_at     INTEGER NOT NULL,
  created_by     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrolment_token_by_institution
  ON enrolment_token (institution_id);

CREATE TABLE round (
  id                INTEGER PRIMARY KEY CHECK (id > 0),
  attempt           INTEGER NOT NULL CHECK (attempt >= 1),
  state             TEXT NOT NULL
                    CHECK (state IN ('planned', 'open', 'collecting',
                                     'aggregating', 'evaluating', 'promoted',
                                     'rejected', 'failed', 'cancelled')),
  reason            TEXT,
  base_version      INTEGER NOT NULL REFERENCES version (number),
  candidate_version INTEGER REFERENCES version (number),
  config_json       TEXT NOT NULL,
  state_json        TEXT,
  planned_at        INTEGER NOT NULL,
  opened_at         INTEGER,
  deadline          INTEGER,
  closed_at         INTEGER,
  eval_deadline     INTEGER,
  finished_at       INTEGER,
  round_public_key  BLOB,
  round_key_state   TEXT NOT NULL
                    CHECK (round_key_state IN ('none', 'live', 'destroyed')),
  "trigger"         TEXT NOT NULL,
  -- A round is over exactly when it has an end.
  CHECK ((finished_at IS NOT NULL) =
         (state IN ('promoted', 'rejected', 'failed', 'cancelled')))
) STRICT;
CREATE INDEX round_open ON round (id) WHERE finished_at IS NULL;
CREATE INDEX round_by_base ON round (base_version);
CREATE INDEX round_by_candidate ON round (candidate_version);
CREATE INDEX round_key_live ON round (id) WHERE round_key_state = 'live';

CREATE TABLE version (
  number      INTEGER PRIMARY KEY CHECK (number >= 0),
  digest      TEXT NOT NULL CHECK (length(digest) = 64),
  blob_bytes  INTEGER NOT NULL CHECK (blob_bytes >= 0),
  parent      INTEGER REFERENCES version (number) CHECK (parent < number),
  round       INTEGER REFERENCES round (id),
  attempt     INTEGER,
  state       TEXT NOT NULL
              CHECK (state IN ('candidate', 'promoted', 'rejected',
                               'rolled_back')),
  tainted     INTEGER NOT NULL DEFAULT 0 CHECK (tainted IN (0, 1)),
  reason      TEXT,
  signature   BLOB NOT NULL,
  created_at  INTEGER NOT NULL,
  promoted_at INTEGER,
  pruned_at   INTEGER,
  report_json TEXT,
  CHECK ((round IS NULL) = (attempt IS NULL))
) STRICT;
CREATE UNIQUE INDEX version_of_round ON version (round, attempt, digest)
  WHERE round IS NOT NULL;
CREATE INDEX version_by_parent ON version (parent);
CREATE INDEX version_by_digest ON version (digest);

CREATE TABLE federation (
  id              INTEGER PRIMARY KEY CHECK (id = 1),
  name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
  layout_digest   TEXT NOT NULL CHECK (length(layout_digest) = 64),
  layout_bytes    INTEGER NOT NULL DEFAULT 0 CHECK (layout_bytes >= 0),
  policy_json     TEXT NOT NULL,
  current_version INTEGER REFERENCES version (number),
  created_at      INTEGER NOT NULL,
  paused          INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1))
) STRICT;

CREATE TABLE round_event (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  round       INTEGER NOT NULL REFERENCES round (id),
  attempt     INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  kind        TEXT NOT NULL,
  institution TEXT,
  detail      TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX round_event_by_round ON round_event (round, id);

CREATE TABLE cohort_member (
  round          INTEGER NOT NULL REFERENCES round (id),
  attempt        INTEGER NOT NULL,
  institution_id INTEGER NOT NULL REFERENCES institution (id),
  state          TEXT NOT NULL
                 CHECK (state IN ('invited', 'training', 'uploading',
                                  'committed', 'declined', 'failed',
                                  'missing', 'removed')),
  reason         TEXT,
  progress       REAL CHECK (progress BETWEEN 0 AND 1),
  progress_text  TEXT,
  updated_at     INTEGER NOT NULL,
  PRIMARY KEY (round, attempt, institution_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX cohort_member_by_institution ON cohort_member (institution_id);

CREATE TABLE contribution (
  id             TEXT PRIMARY KEY,
  round          INTEGER NOT NULL REFERENCES round (id),
  attempt        INTEGER NOT NULL,
  institution_id INTEGER NOT NULL REFERENCES institution (id),
  state          TEXT NOT NULL
                 CHECK (state IN ('uploading', 'committed', 'folded',
                                  'quarantined', 'superseded', 'expired')),
  reason         TEXT,
  manifest       BLOB NOT NULL,
  payload_digest TEXT NOT NULL CHECK (length(payload_digest) = 64),
  payload_bytes  INTEGER NOT NULL CHECK (payload_bytes >= 0),
  spool_path     TEXT,
  wrapped_key    BLOB,
  sealed         INTEGER NOT NULL CHECK (sealed IN (0, 1)),
  examples       INTEGER CHECK (examples >= 0),
  norm           REAL,
  stats_json     TEXT,
  weights_json   TEXT,
  receipt        BLOB,
  begun_at       INTEGER NOT NULL,
  committed_at   INTEGER,
  -- Nothing counts without a receipt, and the receipt is in the same row.
  CHECK (state NOT IN ('committed', 'folded') OR
         (receipt IS NOT NULL AND committed_at IS NOT NULL)),
  CHECK (state NOT IN ('uploading', 'committed') OR spool_path IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX contribution_live_upload
  ON contribution (round, attempt, institution_id) WHERE state = 'uploading';
CREATE UNIQUE INDEX contribution_counted
  ON contribution (round, attempt, institution_id)
  WHERE state IN ('committed', 'folded');
CREATE INDEX contribution_by_round
  ON contribution (round, attempt, institution_id);
CREATE INDEX contribution_by_institution ON contribution (institution_id);
CREATE UNIQUE INDEX contribution_spool ON contribution (spool_path)
  WHERE spool_path IS NOT NULL;

CREATE TABLE metric (
  id             INTEGER PRIMARY KEY,
  round          INTEGER NOT NULL REFERENCES round (id),
  attempt        INTEGER NOT NULL,
  version        INTEGER REFERENCES version (number),
  institution_id INTEGER REFERENCES institution (id),
  phase          TEXT NOT NULL
                 CHECK (phase IN ('train', 'evaluate', 'aggregate')),
  name           TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
  value          REAL NOT NULL,
  examples       INTEGER NOT NULL CHECK (examples >= 0),
  at             INTEGER NOT NULL
) STRICT;
CREATE INDEX metric_by_round ON metric (round, attempt, phase, name);
CREATE INDEX metric_by_version ON metric (version);
CREATE INDEX metric_by_institution ON metric (institution_id);

CREATE TABLE audit (
  seq       INTEGER PRIMARY KEY CHECK (seq > 0),
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  action    TEXT NOT NULL,
  object    TEXT NOT NULL,
  detail    TEXT NOT NULL,
  prev_hash TEXT NOT NULL CHECK (length(prev_hash) = 64),
  hash      TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;
-- What is written stays: the chain shows changes, this refuses them.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE schedule (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  kind       TEXT NOT NULL
             CHECK (kind IN ('manual', 'every', 'cron', 'continuous')),
  expression TEXT NOT NULL,
  time_zone  TEXT NOT NULL,
  paused     INTEGER NOT NULL CHECK (paused IN (0, 1)),
  next_at    INTEGER,
  updated_at INTEGER NOT NULL
) STRICT;
