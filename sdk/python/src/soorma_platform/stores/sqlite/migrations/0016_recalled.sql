-- Whether a passage, or a further statement of one, only says again what was recalled.
ALTER TABLE passages ADD COLUMN is_recalled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE restatements ADD COLUMN is_recalled INTEGER NOT NULL DEFAULT 0;
