-- How a round weighs is fixed when it begins. Rounds from before this have what
-- was in force last.

UPDATE round SET state_json = json_set(state_json, '$.weighting', json_object(
  'router_by_examples',
  json(CASE WHEN EXISTS (SELECT 1 FROM federation
    WHERE json_extract(policy_json, '$.router') = 'examples')
    THEN 'true' ELSE 'false' END),
  'maximum_tokens', 1000000000.0)) WHERE state_json IS NOT NULL;
