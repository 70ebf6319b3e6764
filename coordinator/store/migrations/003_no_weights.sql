-- Nothing was ever written there: the weights of a contribution follow from its
-- statistics and the round's configuration.

ALTER TABLE contribution DROP COLUMN weights_json;
