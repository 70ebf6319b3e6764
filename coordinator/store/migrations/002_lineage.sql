-- Versions know which contributions they hold, those of a replay too.

CREATE TABLE version_contribution (
  version      INTEGER NOT NULL REFERENCES version (number),
  contribution TEXT NOT NULL REFERENCES contribution (id),
  PRIMARY KEY (version, contribution)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_contribution_by_contribution
  ON version_contribution (contribution);
INSERT INTO version_contribution (version, contribution)
  SELECT r.candidate_version, c.id FROM round r
  JOIN contribution c ON c.round = r.id AND c.attempt = r.attempt
  WHERE r.candidate_version IS NOT NULL AND c.state = 'folded';
