// What many rounds amount to: medians and spread, and the one way in which a figure is written.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median, least and most, and how many there were; undefined where there is nothing. */
export const summary = (values) => (values.length === 0 ? undefined
  : { median: median(values), least: Math.min(...values), most: Math.max(...values), count: values.length });

/** Three figures that matter, or as many as that, or all before the point. */
export const digits = (number, figures = 3) => {
  if (number === 0) return '0';
  const decimals = Math.max(0, figures - 1 - Math.floor(Math.log10(Math.abs(number))));
  const shown = Math.min(decimals, figures);
  return number.toLocaleString('en-US', { minimumFractionDigits: shown, maximumFractionDigits: shown });
};
