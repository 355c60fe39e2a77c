"""Questions in Visual Genome's format with the verdict that a reader of the rules gives each, worked out by hand.

A question is one line: question; answer; referents of the question; of the answer; mapped region; verdict.
A verdict is a reason, or the box in pixels (x1,y1,x2,y2), with ``region`` before it where that is where it comes from.

A referent is the name of an object in the image's table, as v1.2 writes it; ``name@x,y,w,h`` has another box there;
``name#`` has an id but no box; ``+NAME/SYNSET@x,y,w,h`` is not in objects.json; ``=NAME/SYNSET`` is a word under
``question_objects`` as in older releases, ``%NAME/SYNSET`` the same under ``question_synsets``. ``_`` is a space.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Place:
    """An image: its size, objects (name: NAMES/SYNSET x y w h) and regions (name: x y w h)."""

    size: tuple[int, int]
    objects: str = ""
    regions: str = ""
    questions: str = ""
    listed: bool = True
    """Whether objects.json has the image."""
    known: bool = True
    """Whether image_data.json has the image."""


@dataclass(frozen=True)
class Case:
    """One question and its verdict."""

    qa_id: int
    image_id: int
    text: str
    record: dict[str, Any] = field(compare=False)
    region: int | None
    verdict: str


PLACES = {
    "street": Place(
        (800, 600),
        objects="""
            bus    bus/bus.n.01               100 100 200 100
            man1   man/man.n.01                50 300  60 150
            man2   man/man.n.01               500 300  60 150
            woman  woman/woman.n.01           300 300  60 150
            hat    hat/hat.n.01                60 290  30  20
            shirt1 shirt/shirt.n.01            55 330  50  60
            shirt2 shirt/shirt.n.01           505 330  50  60
            sofa   sofa/sofa.n.01             600 100 100  50
            couch  couch/sofa.n.01            600 400 100  50
            dog    dog/dog.n.01               400 500  80  60
            sign   stop_sign/stop_sign.n.01   700 200  50  50
            door1  car_door/car_door.n.01     700 500  40  80
            door2  door/door.n.01             100 480  40  80
            bag    bag/bag.n.01               320 380  20  40
            road   road/road.n.01               0 450 800 150
        """,
        regions="""
            left   0 250 200 250
            right  400 250 400 350
            all    0 0 800 600
        """,
        questions="""
            What color is the bus?;          Red.;           bus;          ;          ; 100,100,300,200
            Where is the dog?;               On the road.;   dog;          road;      ; 0,450,800,600
            What is the woman holding?;      A bag.;         woman;        bag;       ; 300,300,360,450
            What color is the man's shirt?;  Blue.;          man1 shirt1;  ;          ; ambiguous
            What is the man wearing?;        A hat.;         man1;         hat;       ; ambiguous
            Who wears a hat?;                The man.;       hat;          man1;      ; ambiguous
            What color is the hat?;          Black.;         hat;          ;          ; 60,290,90,310
            How many men are there?;         Two.;           man1 man2;    ;          ; 50,300,560,450
            What are the men doing?;         Walking a dog.; man1 man2;    dog;       ; 50,300,560,560
            What is the woman near?;         The man.;       woman;        man2;      ; ambiguous
            Who is between the men?;         A woman.;       man1 man2;    woman;     ; 50,300,560,450
            What color are the shirts?;      Blue.;          shirt1 shirt2; ;         ; 55,330,555,390
            What color is the shirt?;        Blue.;          shirt2;       ;          ; ambiguous
            What color is the sofa?;         Brown.;         sofa;         ;          ; ambiguous
            What color is the couch?;        Brown.;         couch;        ;          ; ambiguous
            What color are the couches?;     Brown.;         sofa couch;   ;          ; 600,100,700,450
            What does the sign say?;         Stop.;          sign;         ;          ; 700,200,750,250
            What color is the door?;         Green.;         door2;        ;          ; ambiguous
            What color is the car door?;     Green.;         door1;        ;          ; ambiguous
            What color are the doors?;       Green.;         door1 door2;  ;          ; 100,480,740,580
            Where is the bag?;               On the woman.;  bag;          woman;     ; 300,300,360,450
            What is right of the bus?;       A sign.;        bus;          sign;      ; 100,100,750,250
            What is grey?;                   The road.;      ;             road;      ; 0,450,800,600
            Who is there?;                   The men.;       ;             man1 man2; ; 50,300,560,450
            Who is there?;                   A man.;         ;             man2;      ; ambiguous
            What is the mood?;               Calm.;          ;             ;          ; no_box
            What is the mood?;               Calm.;          ;             ;       all; region 0,0,800,600
            How many men are there?;         Two.;           ;             ;       all; region 0,0,800,600
            What color is the dog?;          Brown.;         ;             ;     right; region 400,250,800,600
            What is the man doing?;          Standing.;      ;             ;      left; ambiguous
            What is the man doing?;          Standing.;      ;             ;     right; ambiguous
            Where is the woman?;             Left.;          ;             ;     right; ambiguous
            What color is the couch?;        Brown.;         ;             ;     right; ambiguous
            What color are the women?;       Unclear.;       ;             ;      left; ambiguous
            What does the Sign say?;         Stop.;          ;             ;     right; ambiguous
            What is near the dogs?;          A road.;        ;             ;     right; region 400,250,800,600
            Why is it wet?;                  Rain.;          ;             ;      left; region 0,250,200,500
            What color is the bus?;          Red.;           bus#;         ;          ; 100,100,300,200
            What color is the bus?;          Red.;           bus@90,90,220,120; ;     ; 90,90,310,210
            What color is the bus?;          Red.;           bus@500,10,20,20; ;      ; ambiguous
            What color is the hat?;          Black.;         bus;          ;       all; 100,100,300,200
        """,
    ),
    "crowd": Place(
        (500, 375),
        objects="""
            p1     person/person.n.01      10  10  50 100
            p2     people/people.n.01     200  10 100 100
            girl   girl/girl.n.01         400 200  40  80
            boys   boys/male_child.n.01   100 200  90  80
            kite   kite/kite.n.03         300 300  60  30
            banner banner/streamer.n.01    20 320 100  40
        """,
        regions="""
            top    0 0 500 150
            all    0 0 500 375
        """,
        questions="""
            What color is the person's shirt?; Red.;   p1;               ;     ; ambiguous
            What are the people doing?;        Posing; p2;               ;     ; ambiguous
            What are the people doing?;        Posing; p1 p2;            ;     ; ambiguous
            What are the people doing?;        Posing; p1 p2 girl boys;  ;     ; 10,10,440,280
            Who is the girl?;                  Ann.;   girl;             ;     ; ambiguous
            Where are the boys?;               Left.;  boys;             ;     ; ambiguous
            What flies?;                       A kite. ;;            kite;     ; 300,300,360,330
            Who flies the kite?;               A girl.; kite;        girl;     ; ambiguous
            What is red?;                      The banner.; ;      banner;     ; 20,320,120,360
            What are the people doing?;        Posing; ;                 ;  top; ambiguous
            What are the people doing?;        Posing; ;                 ;  all; region 0,0,500,375
            What is the girl holding?;         A kite; ;                 ;  top; ambiguous
            Where is this?;                    Beach;  ;                 ;  top; region 0,0,500,150
        """,
    ),
    "family": Place(
        (640, 480),
        objects="""
            mother woman/woman.n.01   100 100 80 200
            father man/man.n.01       300 100 80 200
            kid1   child/child.n.01   200 200 50 100
            kid2   child/child.n.01   260 200 30 100
        """,
        questions="""
            What is the woman wearing?;   A dress.;   mother;            ;          ; 100,100,180,300
            What is the man wearing?;     A suit.;    father;            ;          ; 300,100,380,300
            Where is the child?;          In front.;  kid1;              ;          ; ambiguous
            Where are the children?;      In front.;  kid1 kid2;         ;          ; 200,200,290,300
            Who is with the children?;    A woman.;   kid1 kid2;         mother;    ; 100,100,290,300
            Who is with the woman?;       A man.;     mother;            father;    ; 100,100,380,300
            Who is with the woman?;       Kids.;      mother;            kid1 kid2; ; 100,100,290,300
        """,
    ),
    "overlap": Place(
        (400, 400),
        objects="""
            cup1   cup/cup.n.01     100 100 100 100
            cup2   cup/cup.n.01     120 120  20  20
            fork1  fork/fork.n.01   100 100 100 100
            fork2  fork/fork.n.01   150 100 100 100
            spoon1 spoon/spoon.n.01 100 100 100 100
            spoon2 spoon/spoon.n.01 151 100 100 100
            tray1  tray/tray.n.01   100 100 100 100
            tray2  tray/tray.n.01     0   0 400 400
            bowl1  bowl/bowl.n.01   100 100 100 100
            bowl2  bowl/bowl.n.01   300 300   0  20
            pot1   pot/pot.n.01     100 100 100 100
            pot2   pot/pot.n.01     104  98  99 101
        """,
        questions="""
            What color is the cup?;    White.; cup1;          ; ; 100,100,200,200
            What color is the cup?;    White.; cup2;          ; ; ambiguous
            What color is the fork?;   Grey.;  fork1;         ; ; 100,100,200,200
            What color is the spoon?;  Grey.;  spoon1;        ; ; ambiguous
            What color are the spoons?; Grey.; spoon1 spoon2; ; ; 100,100,251,200
            What color is the tray?;   Brown.; tray1;         ; ; ambiguous
            What color is the tray?;   Brown.; tray2;         ; ; 0,0,400,400
            What color is the bowl?;   Blue.;  bowl1;         ; ; 100,100,200,200
            What color is the pot?;    Black.; pot1;          ; ; 100,100,200,200
            What color is the pot?;    Black.; pot2;          ; ; 104,98,203,199
            What color is the pot?;    Black.; =pot/pot.n.01; ; ; 100,100,200,200
            What color is the fork?;   Grey.;  =fork;         ; ; 100,100,200,200
            What color is the spoon?;  Grey.;  =spoon;        ; ; ambiguous
        """,
    ),
    "park": Place(
        (500, 400),
        objects="""
            dog1    dog/dog.n.01       10  10  50  50
            dog2    dog/dog.n.01      300 300  60  60
            bench1  bench/bench.n.01  100 100 100  50
            bench2  bench/bench.n.01  105 102  93  47
            tree    tree/tree.n.01    400   0  80 200
            ball    ball/             220 220  20  20
            disc    frisbee/frisbee.n.01 80 300 40 30
            woman   woman/woman.n.01  250 100  40 100
        """,
        regions="""
            left   0 0 250 200
            right  250 250 150 140
            all    0 0 500 400
            flat   10 10 0 50
            out    450 350 200 200
        """,
        questions="""
            What color is the dog?;        Brown.;  =dog/dog.n.01;              ;      ; ambiguous
            What color are the dogs?;      Brown.;  =dogs/dog.n.01;             ;      ; 10,10,360,360
            What color are the dogs?;      Brown.;  =Dogs;                      ;      ; 10,10,360,360
            What is the bench made of?;    Wood.;   =bench/bench.n.01;          ;      ; 100,100,200,150
            What is the bench made of?;    Wood.;   =bench;                     ;      ; 100,100,200,150
            How tall is the tree?;         Tall.;   =tree/tree.n.01;            ;      ; 400,0,480,200
            How tall is the tree?;         Tall.;   %tree/tree.n.01;            ;      ; 400,0,480,200
            What is left of the tree?;     A ball.; =tree/tree.n.01;       =ball;      ; 220,0,480,240
            What is left of the tree?;     A ball.; %tree/tree.n.01;       %ball;      ; 220,0,480,240
            What color is the tree?;       Green.;  =color/color.n.01 =tree;    ;      ; 400,0,480,200
            What color is the tree?;       Green.;  =color/color.n.01 =tree; =green/green.n.01;; 400,0,480,200
            What color is it?;             Green.;  =color/color.n.01;          ;      ; no_box
            What color is it?;             Green.;  =color/color.n.01;          ;   all; region 0,0,500,400
            What color is the dog?;        Brown.;  =dog/dog.n.01;              ;   all; ambiguous
            What does the dog catch?;      A disc.; =dog;           =frisbee/frisbee.n.01; ; ambiguous
            What do the dogs catch?;       A disc.; =dogs;          =frisbee/frisbee.n.01; ; 10,10,360,360
            What flies?;                   A disc.; ;       =flying_disc/frisbee.n.01; ; 80,300,120,330
            Who sits there?;               A lady.; =bench;                =lady;      ; 100,100,200,150
            Who stands there?;             Somebody.; ;                =somebody;      ; 250,100,290,200
            Who stands there?;             A person.; ;  =person/person.n.01;          ; 250,100,290,200
            What color is the dog?;        Brown.;  dog1#;                      ;      ; ambiguous
            What color is the ball?;       Red.;    ball#;                      ;      ; 220,220,240,240
            What color is the ball?;       Red.;    ball@0,0,0,0;               ;      ; 220,220,240,240
            What color is the tree?;       Green.;  tree;                  =green;     ; 400,0,480,200
            What color is the dog?;        Brown.;  ;                           ;  left; ambiguous
            What color is the dog?;        Brown.;  ;                           ; right; ambiguous
            What color is the dog?;        Brown.;  ;                           ;   all; region 0,0,500,400
            What color is the dog?;        Brown.;  =color/color.n.01;          ;  left; ambiguous
            What color is the bench?;      Brown.;  ;                           ;  left; region 0,0,250,200
            What color is the tree?;       Green.;  ;                           ;  left; ambiguous
            Who is there?;                 Nobody.; ;                           ;  left; region 0,0,250,200
            Who is the person?;            Ann.;    ;                           ;  left; ambiguous
            Where is it?;                  Here.;   ;                           ;  flat; no_box
            Where is it?;                  Here.;   ;                           ;   out; outside_image
            Where is it?;                  Here.;   ;                           ;  lost; no_box
            Where is it?;                  Here.;   ;                      =ball;  left; 220,220,240,240
        """,
    ),
    "edge": Place(
        (100, 100),
        regions="all 0 0 100 100",
        questions="""
            Where is it?; Here.; +thing/thing.n.01@10,10,20,20;     ;    ; 10,10,30,30
            Where is it?; Here.; +thing/thing.n.01@0,0,100,100;     ;    ; 0,0,100,100
            Where is it?; Here.; +thing/thing.n.01@10.5,10,20,20.5; ;    ; 10.5,10,30.5,30.5
            Where is it?; Here.; +thing/thing.n.01@-2,-2,50,50;     ;    ; 0,0,48,48
            Where is it?; Here.; +thing/thing.n.01@60,60,42,42;     ;    ; 60,60,100,100
            Where is it?; Here.; +thing/thing.n.01@-1,-1,102,102;   ;    ; 0,0,100,100
            Where is it?; Here.; +thing/thing.n.01@-3,0,50,50;      ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@0,-3,50,50;      ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@60,60,43,10;     ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@60,60,10,43;     ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@200,200,10,10;   ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@-50,10,20,20;    ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@-1,0,1,50;       ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@100,0,2,50;      ;    ; outside_image
            Where is it?; Here.; +thing/thing.n.01@-50,10,20,20;    ; all; outside_image
            Where is it?; Here.; +thing/thing.n.01@50,50,0.2,0.2;   ;    ; too_small
            Where is it?; Here.; +thing/thing.n.01@50,10,0.2,80;    ;    ; too_small
            Where is it?; Here.; +thing/thing.n.01@10,50,80,0.2;    ;    ; too_small
            Where is it?; Here.; +thing/thing.n.01@50,50,1,1;       ;    ; 50,50,51,51
            Where is it?; Here.; +thing/thing.n.01@10,10,0,20;      ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,10,20,0;      ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,10,-5,20;     ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,10,20,-5;     ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@NaN,10,20,20;    ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,Infinity,20,20; ;  ; no_box
            Where is it?; Here.; +thing/thing.n.01@null,10,20,20;   ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@"10",10,20,20;   ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@true,10,20,20;   ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@[1],10,20,20;    ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,10,1e12,20;   ;    ; no_box
            Where is it?; Here.; +thing/thing.n.01@10,10,0,20;      ; all; region 0,0,100,100
            Where is it?; Here.; +thing/thing.n.01@10,10,-5,20;     ; all; region 0,0,100,100
            Where is it?; Here.; +one/@10,10,20,20 +two/@0,0,0,0;   ;    ; no_box
            Where is it?; Here.; +one/@10,10,20,20; +two/@0,0,0,0;       ; no_box
            Where is it?; Here.; +one/@10,10,20,20 +two/@0,0,0,0;   ; all; region 0,0,100,100
            Where is it?; Here.; +one/@10,10,20,20 +/@0,0,0,0;      ;    ; no_box
            Where is it?; Here.; +one/@10,10,20,20 +two/@40,40,9,9; ;    ; 10,10,49,49
            Where is it?; Here.; +one/@10,10,20,20; +two/@40,40,9,9;     ; 10,10,49,49
            Where is it?; Here.; +one/@-50,0,60,20 +two/@40,40,9,9; ;    ; outside_image
            Where is it?; Here.; +/@10,10,20,20;                    ;    ; unchecked
            Where is it?; Here.; +/thing.n.01@10,10,20,20;          ;    ; 10,10,30,30
        """,
    ),
    "texts": Place(
        (200, 200),
        objects="cup cup/cup.n.01 10 10 50 50",
        questions="""
            What color is the cup?; ;              cup; ; ; empty_answer
            What color is the cup?; .;             cup; ; ; empty_answer
            What color is the cup?; ?!;            cup; ; ; empty_answer
            What color is the cup?; —;             cup; ; ; empty_answer
            What color is the cup?; \u00a0;        cup; ; ; empty_answer
            What color is the cup?; \u200b;        cup; ; ; empty_answer
            What color is the cup?; "...";         cup; ; ; empty_answer
            ;                       Red.;          cup; ; ; empty_question
            ???;                    Red.;          cup; ; ; empty_question
            ;                       ;              cup; ; ; empty_question
            What color is the cup?; Röt.;          cup; ; ; 10,10,60,60
            Welche Farbe?;          weiß;          cup; ; ; 10,10,60,60
            什么颜色;               红色。;        cup; ; ; 10,10,60,60
            What is on the cup?;    ☕;            cup; ; ; 10,10,60,60
            How much is the cup?;   $5.;           cup; ; ; 10,10,60,60
            How many cups?;         1;             cup; ; ; 10,10,60,60
            What is on the cup?;    "No" \\ {yes]; cup; ; ; 10,10,60,60
            What half is missing?;  \ud83d half;   cup; ; ; 10,10,60,60
        """,
    ),
    "unlisted": Place(
        (200, 200),
        listed=False,
        regions="all 0 0 200 200",
        questions="""
            What color is the cup?; Red.; +cup/cup.n.01@10,10,50,50; ; ; unchecked
            What color is the cup?; Red.; =cup/cup.n.01;        ;    ; no_box
            What color is the cup?; Red.; =cup/cup.n.01;        ; all; unchecked
            What color is the cup?; Red.; ;                     ; all; unchecked
            What color is the cup?; ;     ;                     ; all; empty_answer
        """,
    ),
    "unknown": Place(
        (200, 200),
        known=False,
        objects="cup cup/cup.n.01 10 10 50 50",
        questions="""
            What color is the cup?; Red.; cup; ; ; unknown_image
            What color is the cup?; Red.; cup@0,0,0,0; ; ; unknown_image
            What color is the cup?; Red.; ; ; ; unknown_image
            What color is the cup?; ;     cup; ; ; empty_answer
        """,
    ),
}

PAIRS = """
    knife; knives; same
    shelf; shelves; same
    leaf; leaves; same
    scarf; scarves; same
    glove; gloves; same
    box; boxes; same
    bus; buses; same
    glass; glasses; same
    dish; dishes; same
    couch; couches; same
    horse; horses; same
    house; houses; same
    shoe; shoes; same
    potato; potatoes; same
    photo; photos; same
    berry; berries; same
    cookie; cookies; same
    tie; ties; same
    man; men; same
    snowman; snowmen; same
    woman; women; same
    child; children; same
    foot; feet; same
    tooth; teeth; same
    mouse; mice; same
    goose; geese; same
    ski; skis; same
    ski; sky; other
    mane; man; other
    cap; cape; other
    pan; pane; other
    can; cane; other
    tub; tube; other
    gas; gap; other
    lens; leg; other
    glass; grass; other
    Tree; TREE; same
    tree_; _tree; same
    café; cafe\u0301; same
    猫; 猫; same
    猫; 犬; other
    Straße; STRASSE; same
    sofa/sofa.n.01; couch/sofa.n.01; same
    bike/bicycle.n.01; bicycle/bicycle.n.01; same
    bat/bat.n.01; bat/bat.n.05; same
    plane/airplane.n.01; jet/jet.n.01; other
    cup/cup.n.01; mug/mug.n.04; other
    traffic_light/traffic_light.n.01; light/light.n.02; same
    tennis_racket; racket; same
    tennis_racket; tennis_ball; other
    red_car; blue_car; same
    leg_of_chair; chair; other
    leg_of_chair; table_leg; same
    pair_of_shoes; shoe; same
    bunch_of_bananas; banana; same
    group_of_trees; tree; same
    man_in_black; man; same
    man_in_black; black_bag; other
    cup_on_table; table; other
    cat_and_dog; dog; same
    cat_and_dog; cat; same
    salt/pepper.n.01; pepper/pepper.n.01; same
    sign_2; sign_3; same
    man's_hat; man; other
    man's_hat; hat; same
    t-shirt; shirt; same
    person; man; same
    someone; girl; same
    people; children; same
    pedestrian; woman; same
    persons; skier; same
    man; woman; other
    boy; girl; other
    player; man; other
    person; dog; other
    person's_shadow; man; other
"""
"""Two objects, far apart, and whether a question about either could mean the other."""

FIRST, SECOND = (10, 10, 50, 40), (300, 200, 60, 50)


def cases() -> list[Case]:
    """All questions, numbered from 1."""
    return [case for place in places().values() for case in place]


def places() -> dict[int, list[Case]]:
    """Cases by image id."""
    found: dict[int, list[Case]] = {}
    number = 0
    for image_id, place in enumerate(all_places().values(), 1):
        found[image_id] = []
        for line in _lines(place.questions):
            number += 1
            found[image_id].append(_case(number, image_id, place, line))
    return found


def all_places() -> dict[str, Place]:
    """The hand-written images, and one per pair of names."""
    pairs = {}
    for number, line in enumerate(_lines(PAIRS)):
        first, second, verdict = (part.strip() for part in line.split(";"))
        boxes = [f"{x},{y},{x + w},{y + h}" for x, y, w, h in (FIRST, SECOND)]
        verdicts = ["ambiguous"] * 2 if verdict == "same" else boxes
        pairs[f"pair {number}"] = Place(
            (640, 480),
            objects="\n".join(
                f"{name} {text if '/' in text else text + '/'} {' '.join(map(str, box))}"
                for name, text, box in (("one", first, FIRST), ("two", second, SECOND))
            ),
            questions=f"What is {first}?; A thing.; one; ; ; {verdicts[0]}\n"
            f"What is {second}?; A thing.; two; ; ; {verdicts[1]}",
        )
    return PLACES | pairs


def release() -> dict[str, Any]:
    """The five files' contents by name."""
    content: dict[str, Any] = {name: [] for name in ("image_data", "objects", "region_descriptions")}
    content |= {"question_answers": [], "qa_to_region_mapping": {}}
    for (image_id, found), place in zip(places().items(), all_places().values(), strict=True):
        width, height = place.size
        if place.known:
            content["image_data"].append(
                {"image_id": image_id, "width": width, "height": height, "url": _url(image_id)}
            )
        if place.listed:
            content["objects"].append({"image_id": image_id, "objects": list(_objects(place, image_id).values())})
        regions = list(_regions(place, image_id).values())
        content["region_descriptions"].append({"id": image_id, "regions": regions})
        content["question_answers"].append({"id": image_id, "qas": [case.record for case in found]})
        content["qa_to_region_mapping"] |= {str(case.qa_id): case.region for case in found if case.region is not None}
    return content


def _url(image_id: int) -> str:
    return f"x/{'VG_100K_2' if image_id % 2 else 'VG_100K'}/{image_id}.jpg"


def _case(number: int, image_id: int, place: Place, line: str) -> Case:
    question, answer, asked, answered, region, verdict = (part.strip(" ") for part in line.split(";"))
    record: dict[str, Any] = {"qa_id": number, "image_id": image_id, "question": question, "answer": answer}
    record |= {"q_objects": [], "a_objects": []}
    objects = _objects(place, image_id)
    for side, long, referents in (("q", "question", asked), ("a", "answer", answered)):
        for text in referents.split():
            key = {"=": f"{long}_objects", "%": f"{long}_synsets"}.get(text[0], f"{side}_objects")
            record.setdefault(key, []).append(_referent(text, objects))
    regions = _regions(place, image_id)
    mapped = None if not region else regions[region]["region_id"] if region in regions else 999_999
    return Case(number, image_id, f"{question} {answer}", record, mapped, verdict)


def _referent(text: str, objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name, _, box = text.partition("@")
    extent = dict(zip("xywh", json.loads(f"[{box}]"), strict=True)) if box else {}
    if name[0] == "=":
        return _named(name[1:])
    if name[0] == "%":
        named = _named(name[1:])
        return {
            "entity_name": named["names"][0],
            "synset_name": named["synsets"][0] if named["synsets"] else None,
            "entity_idx_start": 0,
            "entity_idx_end": 1,
        }
    if name[0] == "+":
        return {"object_id": 888_888, **_named(name[1:]), **extent}
    if name.endswith("#"):
        return {key: value for key, value in objects[name[:-1]].items() if key not in "xywh"}
    return objects[name] | extent


def _objects(place: Place, image_id: int) -> dict[str, dict[str, Any]]:
    found = {}
    for number, line in enumerate(_lines(place.objects), 1):
        name, text, *extent = line.split()
        box = dict(zip("xywh", map(int, extent), strict=True))
        found[name] = {"object_id": 1000 * image_id + number, **_named(text), "merged_object_ids": [], **box}
    return found


def _named(text: str) -> dict[str, Any]:
    name, _, synset = text.replace("_", " ").partition("/")
    return {"names": [name] if name else [], "synsets": [synset.replace(" ", "_")] if synset else []}


def _regions(place: Place, image_id: int) -> dict[str, dict[str, Any]]:
    found = {}
    for number, line in enumerate(_lines(place.regions), 1):
        name, *extent = line.split()
        box = dict(zip(("x", "y", "width", "height"), map(int, extent), strict=True))
        found[name] = {"region_id": 1000 * image_id + number, "image_id": image_id, "phrase": name, **box}
    return found


def _lines(text: str) -> Iterator[str]:
    return (line.strip(" ") for line in text.split("\n") if line.strip(" "))
