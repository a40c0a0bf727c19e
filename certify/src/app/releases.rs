//! The five releases, each as the edits that make it out of the one before. What they are for: `app.rs`.

use super::odd_names;
use super::tree::{Tree, noise};

/// When work on a release began: nine o'clock UTC, on five Mondays from 4 March 2024.
pub(super) fn date_s(version: u32) -> i64 {
    const FIRST_S: i64 = 1_709_542_800;
    const WEEK_S: i64 = 7 * 24 * 3_600;
    FIRST_S + i64::from(version - 1) * WEEK_S
}

/// Everything in release `version`, which is one of `1..=RELEASES`.
pub(super) fn tree(version: u32) -> Tree {
    let first = first();
    let edits: [&dyn Fn(&mut Tree); 4] = [&second, &third, &|tree| fourth(tree, &first), &fifth];
    let mut tree = first.clone();
    for (version, edit) in (2..=version).zip(edits) {
        tree = tree.next(date_s(version));
        edit(&mut tree);
        tree.edit("public/index.html", &format!("Release {}", version - 1), &format!("Release {version}"));
    }
    tree
}

fn first() -> Tree {
    let mut tree = Tree::default().next(date_s(1));
    site(&mut tree);
    program(&mut tree);
    traps(&mut tree);
    tree
}

/// What a visitor sees.
fn site(tree: &mut Tree) {
    tree.file("public/index.html", include_str!("assets/index.html"));
    tree.file("public/about.html", include_str!("assets/about.html"));
    tree.file("public/hire.html", include_str!("assets/hire.html"));
    tree.file("public/404.html", include_str!("assets/404.html"));
    tree.file("public/old-prices.html", "<p>Prices of last year. A rowing boat was 11.00.</p>\n");
    tree.file("public/robots.txt", "User-agent: *\nAllow: /\n");
    tree.file("public/css/site.css", include_str!("assets/site.css"));
    tree.file("public/css/print.css", include_str!("assets/print.css"));
    tree.file("public/js/app.js", include_str!("assets/app.js"));
    tree.file("public/js/tide.js", include_str!("assets/tide.js"));
    tree.file("public/images/harbour.png", include_bytes!("assets/harbour.png"));
    tree.file("public/images/icon.png", include_bytes!("assets/icon.png"));
    tree.file("public/images/logo.svg", include_str!("assets/logo.svg"));
    tree.file("public/favicon.svg", include_str!("assets/favicon.svg"));
    tree.file("public/favicon.ico", include_bytes!("assets/icon.png"));
    tree.file("public/fonts/lantern.css", "/* no fonts yet */\n");
    tree.file("public/fonts/LICENSE", "None needed.\n");
    tree.file("public/promo/index.html", "<h1>Two hours for one, all March</h1>\n");
    tree.file("public/promo/thanks/index.html", "<h1>See you on the water</h1>\n");
    tree.link("public/latest.html", "about.html");
    tree.link("public/guide", "../guide");
    tree.link("public/summer.pdf", "../reports/2099/summer.pdf");
    tree.file("guide/index.html", "<h1>Harbour guide</h1>\n<p>Keep to the right of the red buoy.</p>\n");
    tree.file("guide/tides.html", "<h1>Tides</h1>\n<p>Twice a day.</p>\n");
}

/// What runs, and what it reads.
fn program(tree: &mut Tree) {
    tree.file("README.md", include_str!("assets/readme.md"));
    tree.file("CHANGELOG", "1: first release\n");
    tree.file(".env.example", "DB_NAME=lanternfish\nDB_PASSWORD=\n");
    tree.file_as(0o755, "bin/worker", include_str!("assets/worker.sh"));
    tree.file("bin/console", "#!/bin/sh\nexec sqlite3 \"$(dirname -- \"$0\")/../storage/hire.db\"\n");
    tree.file_as(0o700, "bin/rotate-keys", "#!/bin/sh\necho 'ask Mira'\n");
    tree.file("config/blue.json", "{ \"colour\": \"#1c6e8c\" }\n");
    tree.file("config/gold.json", "{ \"colour\": \"#f2a33a\" }\n");
    tree.link("config/theme.json", "blue.json");
    tree.link("config/timezone", "/usr/share/zoneinfo/Europe/London");
    tree.file_as(0o600, "config/keys.env", "MAIL_KEY=not-a-real-key\n");
    tree.file("data/boats.json", include_str!("assets/boats.json"));
    tree.file("data/tides.csv", include_str!("assets/tides.csv"));
    tree.file("data/queue.json", "[{ \"mail\": \"welcome\", \"to\": \"guest@example.org\" }]\n");
    tree.file("data/tiles.pack", noise(1, 1 << 20));
    tree.file("data/tide-model.bin", [b"\x7fTIDE\0\x01\0\n\r\n\x1a".to_vec(), noise(2, 700)].concat());
    tree.file("db/schema.sql", include_str!("assets/schema.sql"));
    tree.file("lang/en.json", "{ \"hello\": \"Ahoy\" }\n");
    tree.file("lang/ja.json", "{ \"hello\": \"こんにちは\" }\n");
    tree.file("lang/fr/messages.json", "{ \"hello\": \"Ohé\" }\n");
    tree.file("lang/fr/plural.json", "{ \"boat\": [\"bateau\", \"bateaux\"] }\n");
    tree.file("lib/hire/price.js", "export const perHour = { row: 12, kayak: 9.5 };\n");
    tree.file("lib/hire/index.js", "export * from './price.js';\n");
    tree.file("mail/welcome.txt", "Welcome aboard.\n");
    tree.file("mail/thanks.txt", "Thank you for bringing it back.\n");
    tree.file("vendor/fonts/lantern.css", "@font-face { font-family: Lantern; src: local('Georgia'); }\n");
    tree.file("vendor/fonts/LICENSE", "Use it as you like.\n");
    tree.file("vendor/normalize-7/normalize.css", "html { line-height: 1.15; }\n");
    tree.file("vendor/normalize-7/package.json", "{ \"name\": \"normalize\", \"version\": \"7\" }\n");
}

/// What deploy tools trip over.
fn traps(tree: &mut Tree) {
    tree.file("-rf", "A name, not an option.\n");
    for name in odd_names::all() {
        let text = [b"My name is ", name.as_slice(), b".\n"].concat();
        tree.file([b"names/", name.as_slice()].concat(), text);
    }
    // Around the size of a page, and one whose bytes are those of a page that was never written.
    tree.file("data/sizes/4095", noise(3, 4_095));
    tree.file("data/sizes/4096", noise(4, 4_096));
    tree.file("data/sizes/4097", noise(5, 4_097));
    tree.file("data/sizes/zeros", [0; 8_192]);
    tree.file("data/sizes/empty", "");
    tree.directory(0o755, "data/outbox");
    tree.file("deep/1/2/3/4/5/6/7/8/leaf.txt", "Down here.\n");
    tree.file_as(0o444, "LICENSE", "All rights adrift.\n");
    tree.directory(0o750, "private");
    tree.file_as(0o600, "private/notes.txt", "The key hangs behind the kettle.\n");
    tree.directory(0o2755, "spool");
    tree.file("spool/README", "Files made here belong to the group of this directory.\n");
}

fn second(tree: &mut Tree) {
    // Edits: equal size, growing, shrinking, empty.
    tree.edit("public/index.html", "from 9 until", "from 8 until");
    tree.edit("public/hire.html", "12.00", "13.00");
    tree.edit("public/css/site.css", ".lead {", ".lead { max-width: 34em;");
    tree.edit("public/js/app.js", " Works without it, too.", "");
    tree.edit("names/it's.txt", "My name", "MY NAME");
    tree.rewrite("data/sizes/4096", noise(14, 4_096));
    tree.rewrite("data/queue.json", "");
    // Gone.
    tree.remove("public/old-prices.html");
    tree.remove("public/promo");
    tree.remove("public/robots.txt");
    // File to directory, directory to file.
    tree.remove("CHANGELOG");
    tree.file("CHANGELOG/CHANGELOG", "1: first release\n2: summer hours\n");
    tree.file("CHANGELOG/policy.md", "One line a release.\n");
    tree.remove("lang/fr");
    tree.file("lang/fr", "{ \"hello\": \"Ohé\", \"boat\": [\"bateau\", \"bateaux\"] }\n");
    // Modes alone.
    tree.chmod(0o755, "bin/console");
    tree.chmod(0o700, "private");
    // Other names.
    tree.rename("mail/welcome.txt", "mail/hello.txt");
    tree.rename("vendor/normalize-7", "vendor/normalize-8");
    // A link of equal length.
    tree.remove("config/theme.json");
    tree.link("config/theme.json", "gold.json");
    // New; the first is where `shared/` is.
    tree.file("storage/README.md", "Not part of a release, but for this file.\n");
    tree.file("public/terms.html", "<h1>Terms</h1>\n<p>You break it, you row it.</p>\n");
}

fn third(tree: &mut Tree) {
    // One page in the middle of a large file.
    let mut tiles = tree.bytes_of(b"data/tiles.pack");
    tiles[400 * 1_024..404 * 1_024].copy_from_slice(&noise(21, 4_096));
    tree.rewrite("data/tiles.pack", tiles);
    // File to link, link to file, directory to link.
    tree.remove("public/favicon.ico");
    tree.link("public/favicon.ico", "images/icon.png");
    tree.remove("public/latest.html");
    tree.file("public/latest.html", "<h1>Latest</h1>\n<p>The ferry is painted.</p>\n");
    tree.remove("public/fonts");
    tree.link("public/fonts", "../vendor/fonts");
    // Both are in `shared/`; the second holds files there.
    tree.file("public/maintenance.html", "<h1>Closed for painting</h1>\n");
    tree.link("public/downloads", "../guide");
    // Everyday edits.
    tree.edit("public/about.html", "eleven boats", "twelve boats");
    tree.edit(
        "data/boats.json",
        "\"Tench\", \"seats\": 4, \"in\": false",
        "\"Tench\", \"seats\": 4, \"in\": true ",
    );
    tree.edit("data/tides.csv", "2024-03-10,11:02,3.8,17:14,0.4", "2024-03-10,11:03,3.9,17:15,0.3");
    tree.rewrite("data/sizes/4095", noise(13, 4_097));
    tree.rewrite("public/images/harbour.png", include_bytes!("assets/icon.png"));
    tree.file("data/outbox/.gitkeep", "");
    tree.file("db/migrations/0002_berths.sql", "ALTER TABLE boat ADD COLUMN berth TEXT;\n");
}

fn fourth(tree: &mut Tree, first: &Tree) {
    // Link to directory; whoever writes without looking changes `guide/` instead.
    tree.remove("public/guide");
    tree.file("public/guide/index.html", "<h1>Guide</h1>\n<p>Moved into the site.</p>\n");
    tree.file("public/guide/tides.html", "<h1>Tides</h1>\n<p>Still twice.</p>\n");
    // Whole directories go, one of them empty but for a hidden file.
    tree.remove("lib");
    tree.remove("CHANGELOG");
    tree.remove("data/outbox");
    for name in ["new\nline.txt", "*", "$(touch pwned)", "with space.txt", "-rf"] {
        tree.remove(format!("names/{name}"));
    }
    tree.remove(b"names/caf\xe9");
    tree.remove("public/summer.pdf");
    // Back in time, and back to having something to say.
    tree.revert("data/tides.csv", first);
    tree.rewrite("data/queue.json", "[]\n");
    tree.rewrite("data/sizes/zeros", noise(31, 8_192));
    // All are in `shared/`.
    tree.file(
        ".well-known/security.txt",
        "Contact: mailto:security@example.org\nExpires: 2025-03-25T00:00:00Z\n",
    );
    tree.file("tmp/README", "Emptied every night.\n");
    tree.remove("public/downloads");
    tree.file("public/downloads/index.html", "<h1>Downloads</h1>\n");
    tree.remove("public/maintenance.html");
    // Everyday edits.
    tree.edit("bin/worker", "'sending %s\\n'", "'mailing %s\\n'");
    tree.edit("public/css/print.css", "#fff", "white");
    tree.rewrite("public/images/harbour.png", include_bytes!("assets/harbour.png"));
}

fn fifth(tree: &mut Tree) {
    // A file and a directory swap their names, two files of equal size their contents; one changes its case.
    swap(tree, "-rf", "deep");
    swap(tree, "config/blue.json", "config/gold.json");
    tree.rename("README.md", "Readme.md");
    // File to link into the directory beside it, link to directory, and a name that was a dangling link.
    tree.rename("db/schema.sql", "db/migrations/0001_boats.sql");
    tree.link("db/schema.sql", "migrations/0001_boats.sql");
    tree.remove("public/fonts");
    tree.file("public/fonts/lantern.css", "@font-face { font-family: Lantern; src: url(lantern.woff2); }\n");
    tree.file("public/fonts/lantern.woff2", [b"wOF2".to_vec(), noise(51, 2_000)].concat());
    tree.file("public/summer.pdf", [b"%PDF-1.4\n".to_vec(), noise(52, 3_000)].concat());
    // Odd names come back.
    for name in ["*", "$(touch pwned)", "new\nline.txt"] {
        tree.file(format!("names/{name}"), "Here again.\n");
    }
    tree.file(b"names/caf\xe9", "Open again.\n");
    // Modes alone.
    tree.chmod(0o755, "spool");
    tree.chmod(0o644, "LICENSE");
    // Both are in `shared/`: one leaves the application, one comes into it.
    tree.remove("storage");
    tree.file("public/notice/index.html", "<h1>Notice</h1>\n<p>The slip is dry.</p>\n");
    // Everyday edits.
    tree.edit("public/hire.html", "13.00", "13.50");
    tree.edit("lang/fr", "Ohé", "Ohé du bateau");
    tree.directory(0o755, "data/outbox");
}

/// Exchanges the names of two entries.
fn swap(tree: &mut Tree, one: &str, other: &str) {
    tree.rename(one, "swapped");
    tree.rename(other, one);
    tree.rename("swapped", other);
}
