-- Of what is gone, an index has to know only what was removed since it last looked. The older rows
-- that say so are removed: an index that knows less than `whole_from` changes is made anew.
ALTER TABLE collections ADD COLUMN whole_from INTEGER NOT NULL DEFAULT 0;
CREATE INDEX passage_parts_gone ON passage_parts (collection, change) WHERE terms IS NULL;
