-- An answer can be lost: until the token expires, the key that used it may ask
-- for the same certificate again.

ALTER TABLE enrolment_token ADD COLUMN key_hash TEXT
  CHECK (key_hash IS NULL OR length(key_hash) = 64);
ALTER TABLE enrolment_token ADD COLUMN chain_pem TEXT;
