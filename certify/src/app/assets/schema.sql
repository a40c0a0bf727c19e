CREATE TABLE boat (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    seats INTEGER NOT NULL CHECK (seats > 0)
);

CREATE TABLE hire (
    id       INTEGER PRIMARY KEY,
    boat_id  INTEGER NOT NULL REFERENCES boat (id),
    guest    TEXT NOT NULL,
    left_at  TEXT NOT NULL,
    back_at  TEXT
);
