// Schedules at their corners.
import { describe, expect, it } from "vitest";
import { optim } from "../../lib/index.ts";

describe("schedules", () => {
  it("cosine: warm-up, half-way, end, beyond", () => {
    const rate = optim.cosine({ lr: 1, minLr: 0.1, warmup: 10, steps: 110 });
    expect(rate(1)).toBeCloseTo(0.1, 12);
    expect(rate(5)).toBeCloseTo(0.5, 12);
    expect(rate(10)).toBe(1);
    expect(rate(60)).toBeCloseTo(0.55, 12);
    expect(rate(110)).toBe(0.1);
    expect(rate(500)).toBe(0.1);
    for (let step = 11; step <= 110; step++) expect(rate(step)).toBeLessThan(rate(step - 1));
  });

  it("cosine without warm-up, of one step, and shorter than its warm-up", () => {
    expect(optim.cosine({ lr: 1, steps: 1 })(1)).toBe(0);
    const short = optim.cosine({ lr: 1, warmup: 10, steps: 5 });
    expect(short(5)).toBe(0.5);
    for (const step of [1, 4, 5, 6, 10, 11]) expect(Number.isFinite(short(step))).toBe(true);
  });

  it("constant and step decay", () => {
    const constant = optim.constant({ lr: 2, warmup: 4 });
    expect([1, 2, 4, 1e6].map(constant)).toEqual([0.5, 1, 2, 2]);
    const steps = optim.stepDecay({ lr: 1, warmup: 2, milestones: [10, 20], factor: 0.5 });
    expect([1, 2, 10, 11, 20, 21].map(steps)).toEqual([0.5, 1, 1, 0.5, 0.5, 0.25]);
  });

  it("refuse bad settings", () => {
    expect(() => optim.cosine({ lr: -1, steps: 1 })).toThrow(/cosine: options\.lr is -1/);
    expect(() => optim.cosine({ lr: 1, steps: 0 })).toThrow(/options\.steps is 0/);
    expect(() => optim.cosine({ lr: 1, minLr: 2, steps: 1 })).toThrow(/options\.minLr is 2/);
    expect(() => optim.stepDecay({ lr: 1, milestones: [5, 5] })).toThrow(/increasing steps/);
    expect(() => optim.stepDecay({ lr: 1, milestones: [5], factor: 0 })).toThrow(/options\.factor is 0/);
    expect(() => optim.constant({ lr: 1, warmup: 1.5 })).toThrow(/options\.warmup is 1\.5/);
  });
});
