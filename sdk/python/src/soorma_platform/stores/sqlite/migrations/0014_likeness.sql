-- Passages that seem to state the same: the newer one, an older one, and the cosine of their vectors.
CREATE TABLE passage_likeness (
    passage INTEGER NOT NULL,
    other INTEGER NOT NULL,
    cosine REAL NOT NULL,
    PRIMARY KEY (passage, other)
) WITHOUT ROWID;
CREATE INDEX passage_likeness_of ON passage_likeness (other);
