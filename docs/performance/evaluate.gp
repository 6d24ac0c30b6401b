# gnuplot docs/performance/evaluate.gp: how evaluation grows with the set (evaluate.csv: n, processor
# seconds, peak MiB of `bench_evaluate growth`).
set terminal svg size 900,380 font "sans,12" background "#ffffff"
set output "docs/performance/evaluate.svg"
set datafile separator ","
set logscale xy
set grid
set key left top
set xlabel "embeddings of 128 dimensions"
set multiplot layout 1,2
set ylabel "processor seconds"
set title "Recalls and mAP@R" noenhanced
plot "docs/performance/evaluate.csv" every ::1 using 1:2 with linespoints pt 7 title "measured", \
     3e-9 * x * x with lines dt 2 title "in proportion to n^2"
set ylabel "peak memory, MiB"
set title "Memory"
plot "docs/performance/evaluate.csv" every ::1 using 1:3 with linespoints pt 7 title "whole process", \
     x * 128 * 4 / 1048576 with lines dt 2 title "the embeddings alone"
unset multiplot
