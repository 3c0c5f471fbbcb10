"""List boilerplate: frequent alt texts, titles and link texts that do not describe their image, by language.

Entries are case-folded, without digits and punctuation, words separated by one space: `Image #12` is `image`.
"""

import re

_NETWORKS = (
    "facebook|twitter|instagram|linkedin|youtube|pinterest|tumblr|whatsapp|telegram|tiktok|reddit|google|flickr|xing|"
    "bloglovin|vimeo|mastodon|bluesky|threads|snapchat|email|e mail|mail|rss"
)
BOILERPLATE_PATTERN = re.compile(
    r"(?:share|tweet|pin|post|follow|like|find|join|visit|subscribe|send|connect|teilen|folgen)"
    r"(?: (?:us|me|this|with))*"
    rf"(?: (?:on|in|to|via|by|auf|per|bei))? (?:{_NETWORKS})"
    rf"|(?:{_NETWORKS}) (?:icon|logo|button|link|share|page|profile|symbol)"
    rf"|(?:icon|logo|button|symbol) (?:{_NETWORKS})"
    r"|powered by (?:\S+ ?){1,2}|sign up (?:for|to) (?:\S+ ){0,3}newsletters?|proudly powered by \S+"
)
"""Matches many more entries, in the same form."""

_ENGLISH = """
image|images|img|picture|pictures|pic|pics|photo|photos|photograph|photography|photo of|image of|picture of
graphic|logo|our logo|site logo|website logo|company logo|header logo|footer logo|logo image|brand logo
logo white|logo dark|icon|icons|banners|banner image|banner ad|header|header image|footer
background|background image|bg|thumbnail|thumb|thumbnails|thumbnail image|avatar|user avatar|profile
profile picture|profile photo|profile image|profile pic|user|author|author image|author photo|gravatar
placeholder|placeholder image|image placeholder|no image|no image available|image not available|image not found
no photo|no photo available|no picture|no picture available|not available|photo not available
picture not available|default|default image|default avatar|missing image|alt|alt text|alt tag|image alt
image alt text|alternate text|alternative text|your alt text|insert alt text here|description|image description
picture description|caption|title|image title|untitled|untitled image|null|none|undefined|nan|n a|na|unknown
empty|blank|test|spacer|pixel|tracking pixel|separator|divider|line|arrow left|arrow right|arrow down
arrow up|left arrow|right arrow|down arrow|dot|check|checkmark|close|menu|hamburger menu
search|search icon|home|home page|homepage|back|back to top|top|next|previous|prev|next page
previous page|first|last|more|more info|more information|more details|details|read more|learn more|see more
show more|view more|load more|view all|see all|show all|find out more|continue reading|read full article
full story|read article|read the article|read now|read post|click|click here|click me|click to enlarge
click for larger image|click to view|click to zoom|click image to enlarge|click for larger|click for full size
enlarge|enlarge image|zoom|zoom in|view larger image|view larger|larger image|large image|view image
view full size|full size|full size image|open image|open in new window|view|preview|image preview|gallery
image gallery|photo gallery|slideshow|slide|slider|slider image|carousel|carousel image|hero|hero image|featured
featured image|feature image|cover|cover image|cover photo|main image|primary image|product|product image
product photo|product picture|product thumbnail|item|item image|article image|article|post image|post
post thumbnail|blog|blog image|blog post|news|news image|story image|lead image|teaser image|stock photo
stock image|stock photography|royalty free stock photo|illustration|advertisement|ad|ads|advert|advertising
sponsored|sponsor|sponsors|partner|partners|promo|promotion|sale|new|hot|buy|buy now|add to cart|add to basket
add to wishlist|add to favorites|add to compare|quick view|quick shop|shop now|order now|subscribe|subscribe now
sign up|sign in|log in|login|register|download|download now|play|play video|play button|video|video thumbnail
watch|watch now|watch video|loading|loading image|loading please wait|please wait|lazy load|share|share this
share on facebook|share on twitter|share on pinterest|share on linkedin|share on whatsapp|share by email|tweet
tweet this|pin it|pin this|bookmark|bookmark and share|submit a complaint|like|follow|follow us
follow us on facebook|follow us on twitter
follow us on instagram|facebook|twitter|instagram|linkedin|youtube|pinterest|tumblr|whatsapp|telegram|tiktok
reddit|google|google plus|facebook icon|twitter icon|instagram icon|linkedin icon|youtube icon|facebook logo
twitter logo|instagram logo|youtube logo|email|e mail|email icon|mail|print|print this page|rss|rss feed
rss icon|feed|location|phone icon|comment|comments|reply|edit|delete|settings|help
info|information|contact|contact us|about|about us|language|english|deutsch|español|français|verified
verified account|online|offline|app store|google play|download on the app store|get it on google play
available on the app store|android app on|creative commons license|creative commons|creative commons licence
cc by|cc by sa|powered by|powered by wordpress|view profile|go to home|go home|skip to content|screenshot
screen shot|attachment|file|files|pdf|link|permalink|source|image source|image credit|photo credit
image courtesy|photo courtesy|credit|credits|post video
getty|getty images|shutterstock|reuters|ap photo|ap|afp|istock|image by author
photo by author|courtesy photo|file photo|handout|submitted photo|captcha|visit counter|counter|web statistics
statcounter|site meter|quantcast|free hit counter|valid html|valid css|dsc|dscn|dscf|img jpg|image jpeg
image png|image jpg|jpg|jpeg|png|gif|svg|webp|x|px|copy|final|edited|small|medium|large
"""
_GERMAN = """
bild|bilder|foto|fotos|grafik|abbildung|abb|vorschau|vorschaubild|startseite|zur startseite|mehr|mehr lesen
weiterlesen|mehr erfahren|mehr infos|mehr dazu|weiter|zurück|nach oben|vergrößern|bild vergrößern
zum vergrößern klicken|klicken zum vergrößern|großes bild|bild anzeigen|kein bild|kein bild vorhanden|kein foto
platzhalter|platzhalterbild|titelbild|beitragsbild|symbolbild|produktbild|artikelbild|anzeige|werbung|suche
warenkorb|drucken|seite drucken|teilen|schließen|menü|anmelden|kontakt|profilbild|benutzerbild|bildergalerie
galerie|bildquelle|ohne titel|unbenannt|logo von|jetzt kaufen|in den warenkorb|details ansehen|zum artikel
zum produkt|lädt|wird geladen
"""
_FRENCH = """
photographie|illustration|vignette|aperçu|accueil|page d accueil|retour|suivant|précédent|lire la suite
lire plus|en savoir plus|voir plus|voir la suite|voir|agrandir|cliquez pour agrandir|cliquer pour agrandir
agrandir l image|pas d image|aucune image|image non disponible|photo non disponible|image par défaut|sans titre
publicité|annonce|rechercher|recherche|panier|ajouter au panier|imprimer|partager|fermer|connexion|télécharger
chargement|nouveau|image à la une|image du produit|photo de profil|photo de couverture|galerie photos|diaporama
crédit photo|lire l article
"""
_SPANISH = """
imagen|imágenes|fotografía|foto de|imagen de|inicio|página de inicio|volver|siguiente|anterior|leer más|ver más
más|más información|saber más|seguir leyendo|ampliar|ampliar imagen|clic para ampliar|haz clic para ampliar
sin imagen|imagen no disponible|foto no disponible|imagen destacada|imagen del producto|foto de perfil
imagen de perfil|sin título|publicidad|anuncio|buscar|carrito|añadir al carrito|agregar al carrito|imprimir
compartir|cerrar|descargar|cargando|comprar|nuevo|galería|galería de imágenes|galería de fotos|ver imagen
ver foto|ver producto|miniatura|portada
"""
_ITALIAN = """
immagine|immagini|fotografia|anteprima|miniatura|home page|indietro|avanti|successivo|precedente|leggi tutto
leggi|leggi di più|continua a leggere|scopri di più|scopri|altro|ingrandisci|clicca per ingrandire
ingrandisci immagine|nessuna immagine|immagine non disponibile|foto non disponibile|immagine in evidenza
immagine di copertina|copertina|immagine del prodotto|foto profilo|immagine profilo|senza titolo|pubblicità
cerca|carrello|aggiungi al carrello|stampa|condividi|chiudi|scarica|caricamento|galleria|galleria fotografica
galleria immagini|vai alla home|acquista
"""
_PORTUGUESE = """
imagem|imagens|fotografia|foto do perfil|imagem de destaque|imagem destacada|início|página inicial|voltar
próximo|anterior|leia mais|ler mais|saiba mais|veja mais|ver mais|mais|ampliar imagem|clique para ampliar
sem imagem|sem foto|imagem não disponível|foto indisponível|imagem indisponível|sem título|publicidade
propaganda|buscar|pesquisar|carrinho|adicionar ao carrinho|imprimir|compartilhar|fechar|baixar|carregando
comprar|novo|galeria|galeria de fotos|capa|divulgação|reprodução|foto divulgação|foto reprodução
imagem ilustrativa
"""
_DUTCH = """
afbeelding|afbeeldingen|plaatje|startpagina|terug|volgende|vorige|lees meer|lees verder|meer|meer informatie
meer info|vergroten|klik om te vergroten|geen afbeelding|geen afbeelding beschikbaar|geen foto
uitgelichte afbeelding|productfoto|profielfoto|naamloos|zonder titel|advertentie|reclame|zoeken|winkelwagen
in winkelwagen|afdrukken|delen|sluiten|downloaden|laden|nieuw|bekijk|bekijk meer|voorbeeld|omslagfoto
"""
_POLISH = """
obraz|obrazek|zdjęcie|zdjęcia|fotografia|miniatura|miniaturka|strona główna|powrót|następny|poprzedni
czytaj więcej|czytaj dalej|więcej|zobacz więcej|zobacz|powiększ|kliknij aby powiększyć|brak zdjęcia|brak obrazka
bez tytułu|reklama|szukaj|koszyk|do koszyka|dodaj do koszyka|drukuj|udostępnij|zamknij|pobierz|ładowanie|nowość
galeria|okładka|zdjęcie produktu|zdjęcie profilowe|zdjęcie główne
"""
_NORDIC = """
bilde|billede|kuva|billeder|bilder|forside|forsiden|hem|startsida|etusivu|læs mere|les mer|läs mer|lue lisää
mere|mer|næste|forrige|nästa|föregående|seuraava|edellinen|förstora|forstør|klicka för att förstora|ingen bild
intet billede|ei kuvaa|annons|annonce|mainos|sök|søg|søk|haku|varukorg|kurv|ostoskori|skriv ut|dela|del|jaa
stäng|luk|sulje|ladda ner|profilbild|profilbillede|omslagsbild|produktbild|produktbillede|tuotekuva
"""
_SLAVIC_CYRILLIC = """
изображение|изображения|картинка|картинки|фото|фотография|фотографии|рисунок|иконка|логотип|лого|баннер|аватар
аватарка|миниатюра|обложка|главная|главная страница|на главную|назад|вперед|далее|следующая|предыдущая|подробнее
читать далее|читать дальше|читать|ещё|еще|больше|увеличить|нажмите чтобы увеличить|нет фото|нет изображения
фото отсутствует|изображение отсутствует|без названия|реклама|поиск|корзина|в корзину|купить|печать|поделиться
закрыть|скачать|загрузка|новинка|галерея|фотогалерея|фото товара|зображення|світлина|головна|детальніше
читати далі|реклама на сайті|снимка|изображение на продукта|начало|слика|насловна
"""
_CENTRAL_AND_SOUTHERN = """
obrázek|obrázky|fotka|úvod|domů|zpět|další|předchozí|více|číst dále|číst více|zvětšit|náhled|bez názvu|hledat
košík|tisk|obrázok|viac|kép|képek|fénykép|főoldal|kezdőlap|vissza|tovább|bővebben|nagyítás|nincs kép|keresés
kosár|imagine|imagini|poză|acasă|înapoi|citește mai mult|mai mult|fără titlu|căutare|coș|slika|slike|fotografija
početna|nazad|više|pročitaj više|uvećaj|resim|resmi|fotoğraf|görsel|görseli|anasayfa|ana sayfa|geri|ileri|devamı
devamını oku|daha fazla|büyüt|resim yok|başlıksız|reklam|ara|sepet|yazdır|paylaş|kapat|indir|yükleniyor|kapak
εικόνα|εικόνες|φωτογραφία|φωτογραφίες|αρχική|περισσότερα|διαβάστε περισσότερα|επόμενο|προηγούμενο|λογότυπο
διαφήμιση
"""
_ASIAN_AND_SEMITIC = """
画像|写真|イメージ|アイコン|ロゴ|バナー|サムネイル|プロフィール画像|アイキャッチ画像|アイキャッチ|トップ
トップページ|ホーム|戻る|次へ|前へ|もっと見る|続きを読む|詳しく見る|詳細|詳細を見る|拡大|クリックで拡大
クリックすると拡大します|画像を拡大|画像なし|広告|検索|閉じる|商品画像|メニュー|图片|图像|照片|图标|标志|横幅
缩略图|头像|首页|返回|下一页|上一页|更多|查看更多|阅读更多|阅读全文|查看详情|详情|点击放大|放大|暂无图片|广告
搜索|购物车|关闭|下载|加载中|封面|封面图|二维码|微信|微博|微信二维码|图|圖片|照片牆|圖像|標誌|首頁|下一頁|上一頁
閱讀更多|廣告|搜尋|關閉|이미지|사진|그림|아이콘|로고|배너|썸네일|프로필|프로필 이미지|프로필 사진|대표이미지
대표 이미지|상품 이미지|홈|메인|이전|다음|더보기|더 보기|자세히|자세히 보기|확대|확대보기|이미지 없음|광고|검색
장바구니|닫기|다운로드|본문 이미지|첨부 이미지|기사 이미지|관련 이미지|블로그|카카오톡|네이버|hình ảnh|ảnh|hình
ảnh bìa|trang chủ|xem thêm|đọc thêm|chi tiết|quảng cáo|tìm kiếm|gambar|gambar produk|beranda|selengkapnya
baca selengkapnya|baca juga|lihat|iklan|cari|รูปภาพ|รูป|ภาพ|หน้าแรก|อ่านต่อ|ดูเพิ่มเติม|โฆษณา|صورة|صور|الصورة
شعار|الرئيسية|الصفحة الرئيسية|اقرأ المزيد|المزيد|التالي|السابق|بحث|إعلان|تصویر|عکس|صفحه اصلی|ادامه مطلب|תמונה
תמונות|לוגו|דף הבית|קרא עוד|עוד|הבא|הקודם|חיפוש|פרסומת|चित्र|छवि|फोटो|फ़ोटो|होम|और पढ़ें
"""

DRAWN = frozenset(
    {"arrow", "bullet", "button", "calendar", "cart", "clock", "flag", "map", "phone", "pin"}
) | frozenset({"shopping cart", "star", "stars", "hamburger", "banner", "document"})
"""Names of things that a picture may show; boilerplate only on a control of a page."""

NAMES = frozenset(_NETWORKS.split("|")) - {"email", "e mail", "mail", "rss", "threads"}
"""Names of companies; boilerplate, unless the title of the page names them."""

BOILERPLATE = (
    frozenset(
        entry.strip().casefold()
        for block in (
            _ENGLISH,
            _GERMAN,
            _FRENCH,
            _SPANISH,
            _ITALIAN,
            _PORTUGUESE,
            _DUTCH,
            _POLISH,
            _NORDIC,
            _SLAVIC_CYRILLIC,
            _CENTRAL_AND_SOUTHERN,
            _ASIAN_AND_SEMITIC,
        )
        for line in block.strip().splitlines()
        for entry in line.split("|")
    )
    - DRAWN
)
