// The tide as one cosine: good enough for a rowing boat, useless for navigation.
const PERIOD_MS = 44_714_164; // 12 h 25 min 14.164 s
const MEAN_M = 2.1;
const AMPLITUDE_M = 1.4;
const HIGH_WATER_MS = Date.UTC(2024, 0, 1, 3, 12);

export function heightAt(date) {
  const phase = ((date.getTime() - HIGH_WATER_MS) % PERIOD_MS) / PERIOD_MS;
  return MEAN_M + AMPLITUDE_M * Math.cos(2 * Math.PI * phase);
}
