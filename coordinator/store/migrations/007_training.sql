-- What a round's members are told to train with is fixed when it begins. Rounds
-- from before this have what was in force last.

UPDATE round SET state_json = json_set(state_json, '$.training',
  json(coalesce((SELECT json_extract(policy_json, '$.training')
                 FROM federation), '{}')))
  WHERE state_json IS NOT NULL;
