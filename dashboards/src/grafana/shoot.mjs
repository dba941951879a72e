// Draws dashboards in a headless Chromium and takes their pictures: shoot.mjs ASKED.json
//
// The file says which dashboards, from which Prometheus, into which files; ../preview.py writes it.
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';

const PATIENCE = 60_000;
const here = dirname(fileURLToPath(import.meta.url));
const { chromium: program, sandbox, pictures } = JSON.parse(readFileSync(process.argv[2], 'utf8'));

await build({ root: here, configFile: false, logLevel: 'error' });
const server = await preview({ root: here, configFile: false, logLevel: 'error', preview: { host: '127.0.0.1', port: 0 } });
const browser = await chromium.launch({
  executablePath: program,
  chromiumSandbox: sandbox,
  args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
});
try {
  for (const picture of pictures) await shoot(picture);
} finally {
  await browser.close();
  await server.close();
}

/** One dashboard, wholly unfolded, or its first `height` pixels. */
async function shoot({ file, height, ...asked }) {
  const page = await browser.newPage({ viewport: { width: asked.width, height: 1000 } });
  page.on('pageerror', (error) => console.error(`${file}: ${error.message}`));
  await page.addInitScript((value) => { window.asked = value; }, asked);
  await page.goto(server.resolvedUrls.local[0]);
  const panels = asked.board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  const drawn = panels.filter(({ type }) => type !== 'row').length;
  await page.waitForFunction((drawn) => window.drawn >= drawn, drawn, { timeout: PATIENCE });
  // Tables are drawn only where they can be seen, and graphs a frame after their data is there.
  height ??= await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: asked.width, height });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.screenshot({ path: file });
  await page.close();
  console.log(file);
}
