-- Operators and auditors have rows too, so that they can be listed and revoked.
-- An operator whose name an institution has keeps only a certificate.

ALTER TABLE institution ADD COLUMN role TEXT NOT NULL DEFAULT 'institution'
  CHECK (role IN ('institution', 'operator', 'auditor'));
UPDATE institution SET role = 'auditor' WHERE id IN
  (SELECT institution_id FROM certificate WHERE role = 'auditor');
UPDATE institution SET role = 'auditor' WHERE state = 'invited' AND id IN
  (SELECT institution_id FROM enrolment_token WHERE role = 'auditor');
INSERT OR IGNORE INTO institution
  (name, state, role, created_at, updated_at)
  SELECT substr(subject_uri, instr(subject_uri, '/operator/') + 10), 'active',
         'operator', min(issued_at), min(issued_at)
  FROM certificate WHERE role = 'operator' AND institution_id IS NULL
  GROUP BY subject_uri;
UPDATE certificate SET institution_id =
  (SELECT id FROM institution i WHERE i.role = 'operator' AND
   i.name = substr(subject_uri, instr(subject_uri, '/operator/') + 10))
  WHERE role = 'operator' AND institution_id IS NULL;
