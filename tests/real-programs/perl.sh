#!/bin/sh
# perl: hashes, regular expressions, sorting, fork, die.
PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0 perl -w - "$((50000 * ${1:-1}))" <<'PERL'
use strict;
$| = 1;
my $count = shift;
my %words;
for my $i (1 .. $count) {
    my $word = sprintf '%s%04x', chr(97 + $i % 26), $i * 40503 % 9973;
    push @{$words{$word}}, $i;
}
my @sorted = sort { @{$words{$b}} <=> @{$words{$a}} || $a cmp $b } keys %words;
print scalar(@sorted), " words\n";
print "$_: ", scalar(@{$words{$_}}), "\n" for grep { defined } @sorted[0 .. 9];
my $text = join ' ', @sorted;
(my $changed = $text) =~ s/([aeiou])(\w)/$2$1/g;
print length($text), ' ', unpack('%32C*', $changed), "\n";
print join(',', map { sprintf '%s', $_ } (split /\s+/, $changed)[0 .. 9]), "\n";
for my $n (1 .. 20) {
    my $pid = fork // die;
    if (!$pid) { my @junk = map { "x" x $_ } 1 .. 500; exit $n }
    waitpid $pid, 0;
    print $? >> 8, "\n";
}
print `echo from a child`;
die "on purpose\n";
PERL
echo "exit $?"
