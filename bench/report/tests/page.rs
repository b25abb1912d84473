//! The page as a browser shows it: drawn by headless Chromium, wide and narrow, light and dark, and measured there.
//!
//! Without Chromium it says SKIPPED, except where `CI=true`: there it fails.
//! `ZSYNC_REPORT_KEEP=DIR` keeps the page and its pictures, to look at.

#[path = "page/sample.rs"]
mod sample;

use std::collections::HashSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use zsync_report::page;

const TITLE: &str = "zsync beside its peers";

/// What runs in a copy of the page: the texts that are wider than their boxes, or that lie outside of the window.
const MEASURE: &str = r#"<script>
addEventListener('load', () => {
  const wide = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) wide.push('page ' + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll('main *')) {
    const box = e.getBoundingClientRect();
    if (!box.width || e.closest('.scroll') || e.closest('defs')) continue;
    const name = e.tagName + ' ' + e.textContent.trim().slice(0, 40);
    if (box.right > width + 1 || box.left < -1) wide.push('outside ' + name);
    if (e instanceof HTMLElement && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
      wide.push('wider ' + name);
    const svg = e.closest('svg');
    if (svg && e.tagName === 'text') {
      const outer = svg.getBoundingClientRect();
      if (box.right > outer.right + 2 || box.left < outer.left - 2 || box.bottom > outer.bottom + 2 || box.top < outer.top - 2)
        wide.push('cut ' + name);
      for (const other of svg.querySelectorAll('text')) {
        const o = other.getBoundingClientRect();
        if (other !== e && box.left < o.right - 1 && o.left < box.right - 1 && box.top < o.bottom - 3 && o.top < box.bottom - 3)
          wide.push('over ' + name + ' / ' + other.textContent);
      }
    }
  }
  const said = document.createElement('output');
  said.textContent = 'MEASURED ' + width + ' [' + wide.join(' | ') + ']';
  document.body.append(said);
});
</script>"#;

struct Browser {
    program: PathBuf,
    folder: PathBuf,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Browser {
    fn find() -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
            std::env::split_paths(&std::env::var_os("PATH")?)
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        });
        let Some(program) = program else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "there is no Chromium in PATH");
            eprintln!("SKIPPED: there is no chromium, chromium-browser or google-chrome in PATH");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("zsync-report-page-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Some(Self { program, folder })
    }

    /// Runs it until it ends; its standard output.
    fn run(&self, arguments: &[String]) -> String {
        let out = self.folder.join("stdout");
        let mut child = Command::new(&self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", self.folder.join("profile").display()))
            .args(arguments)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        // It has to end some time, or the test would hang; how long it takes says nothing.
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(120) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("Chromium has not ended after 120 s: {arguments:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        fs::read_to_string(out).unwrap()
    }

    /// The document as it is once a page has been measured in a frame of this width: a frame is as narrow as a telephone,
    /// which a window may not be.
    fn measure(&self, page: &str, width: u32) -> String {
        fs::write(self.folder.join("measured.html"), page).unwrap();
        let frame = self.folder.join("frame.html");
        let show = "document.body.append(Object.assign(document.createElement('main'), \
                    {innerHTML: f.contentDocument.body.innerHTML}))";
        let text = format!(
            "<!DOCTYPE html><body><iframe id=f width={width} height=3000 style=border:0 src=measured.html \
             onload=\"setTimeout(() => {{ {show} }}, 300)\"></iframe></body>"
        );
        fs::write(&frame, text).unwrap();
        self.run(&[
            "--dump-dom".to_owned(),
            "--allow-file-access-from-files".to_owned(),
            "--virtual-time-budget=5000".to_owned(),
            format!("--window-size={},1000", width + 100),
            format!("file://{}", frame.display()),
        ])
    }

    fn picture(&self, page: &Path, name: &str, (width, height): (u32, u32), is_dark: bool) -> Picture {
        let path = self.folder.join(name);
        self.run(&[
            format!("--screenshot={}", path.display()),
            format!("--window-size={width},{height}"),
            format!("--blink-settings=preferredColorScheme={}", if is_dark { 0 } else { 1 }),
            format!("file://{}", page.display()),
        ]);
        let picture = Picture::read(&path);
        if let Some(kept) = std::env::var_os("ZSYNC_REPORT_KEEP") {
            fs::create_dir_all(&kept).unwrap();
            fs::copy(&path, Path::new(&kept).join(name)).unwrap();
            fs::copy(page, Path::new(&kept).join("page.html")).unwrap();
        }
        picture
    }
}

struct Picture {
    width: u32,
    height: u32,
    /// Red, green, blue.
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn read(path: &Path) -> Self {
        let file = BufReader::new(fs::File::open(path).expect("Chromium has made no picture"));
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let samples = info.color_type.samples();
        let pixels =
            bytes[..info.buffer_size()].chunks(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Self { width: info.width, height: info.height, pixels }
    }

    fn colours(&self) -> usize {
        self.pixels.iter().collect::<HashSet<_>>().len()
    }

    /// Whether more of it is dark than light.
    fn is_dark(&self) -> bool {
        let dark = self.pixels.iter().filter(|pixel| pixel.iter().all(|&part| part < 100)).count();
        dark * 2 > self.pixels.len()
    }

    /// Rows of pixels that are not all of one colour.
    fn used_rows(&self) -> usize {
        self.pixels.chunks(self.width as usize).filter(|row| row.iter().any(|pixel| *pixel != row[0])).count()
    }
}

#[test]
fn a_browser_shows_the_whole_page_wide_and_narrow_light_and_dark() {
    let Some(browser) = Browser::find() else { return };
    let outcomes = sample::outcomes();
    let html = page::html(TITLE, &outcomes);
    let path = browser.folder.join("page.html");
    fs::write(&path, &html).unwrap();

    for (name, size, is_dark) in [
        ("wide-light.png", (1280, 2400), false),
        ("wide-dark.png", (1280, 2400), true),
        ("narrow-light.png", (500, 3000), false),
    ] {
        let picture = browser.picture(&path, name, size, is_dark);
        assert_eq!((picture.width, picture.height), size, "{name}");
        assert!(picture.colours() > 100, "{name}: {} colours", picture.colours());
        assert_eq!(picture.is_dark(), is_dark, "{name}");
        assert!(
            picture.used_rows() * 10 > picture.height as usize * 7,
            "{name}: {} rows",
            picture.used_rows()
        );
    }

    // The policy forbids scripts, so the copy that is measured goes without it.
    let policy = html.lines().find(|line| line.contains("Content-Security-Policy")).unwrap();
    let measured = html.replace(policy, "").replace("</body>", &format!("{MEASURE}</body>"));
    for width in [1280, 700, 400, 340] {
        let dom = browser.measure(&measured, width);
        assert!(dom.contains(&format!("MEASURED {width} []")), "{:?}", dom.split("MEASURED").nth(1));
        for outcome in &outcomes {
            assert!(dom.contains(&format!("<h2>{}</h2>", page::escape(&outcome.name))), "{}", outcome.name);
        }
        for heading in
            ["Ratio, pair by pair", "Figures", "Loss by offered rate", "Latency by percentile", "Caveats"]
        {
            assert!(dom.contains(&format!("<h3>{heading}</h3>")), "{heading}");
        }
    }
    // What is too wide is found: the measurement itself is tried.
    let wide = format!("<p style=\"white-space:nowrap\">{}</p></main>", "too wide ".repeat(40));
    let dom = browser.measure(&measured.replace("</main>", &wide), 400);
    assert!(dom.contains("wider P too wide"), "{:?}", dom.split("MEASURED").nth(1));
}
